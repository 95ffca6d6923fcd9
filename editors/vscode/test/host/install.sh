#!/bin/sh
# Installs a VS Code without a marketplace (code-server) and what drives it, in the folder given: packages from the
# registries only, native modules built here. `sh install.sh FOLDER`. Nothing is done when FOLDER has it already.
# Debian's packages (chromium, ripgrep, the headers) are installed only where they are missing and we may.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$folder"

needed="chromium ripgrep pkg-config libkrb5-dev libx11-dev libxkbfile-dev libsecret-1-dev fonts-dejavu-core"
missing=""
for name in $needed; do
  dpkg -s "$name" >/dev/null 2>&1 || missing="$missing $name"
done
if [ -n "$missing" ]; then
  [ "$(id -u)" = 0 ] || { echo "missing:$missing (apt-get install$missing)" >&2; exit 3; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

if [ -f done ] && cmp -s done "$here/package.json"; then
  exit 0
fi
rm -f done
cp "$here/package.json" package.json
npm_config_unsafe_perm=true npm install --ignore-scripts --no-package-lock --no-audit --no-fund --loglevel=error

inner=node_modules/code-server/lib/vscode
(cd $inner && npm install --ignore-scripts --omit=dev --no-package-lock --no-audit --no-fund --loglevel=error)
ln -sfn node_modules $inner/node_modules.asar
# One run on each core would leave nothing for others; the four modules are small.
headers=$(dirname "$(dirname "$(command -v node)")")
[ -d "$headers/include/node" ] || headers=/usr
for module in node-pty @vscode/spdlog native-watchdog @parcel/watcher; do
  (cd "$inner/node_modules/$module" && JOBS=1 node "$folder/node_modules/node-gyp/bin/node-gyp.js" rebuild --nodedir="$headers" >build.log 2>&1) ||
    { echo "$module: its native part was not built; see $inner/node_modules/$module/build.log" >&2; exit 1; }
done
mkdir -p $inner/node_modules/@vscode/ripgrep/bin
ln -sf "$(command -v rg)" $inner/node_modules/@vscode/ripgrep/bin/rg
# Passwords are not used (--auth none), so their hash needs no native module.
if ! node -e 'require("argon2")' 2>/dev/null; then
  mkdir -p node_modules/argon2
  echo '{"name":"argon2","version":"0.0.0","main":"stub.js"}' >node_modules/argon2/package.json
  echo 'exports.hash = exports.verify = () => Promise.reject(new Error("no passwords here"));' >node_modules/argon2/stub.js
fi
cp "$here/package.json" done
echo "installed in $folder"
