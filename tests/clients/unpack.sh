#!/bin/sh
# Unpacks llama.vim and Helix from Debian's unstable suite into the folder given, beside the system and not into it; Helix with the
# libraries that it was built for. `sh unpack.sh FOLDER` leaves FOLDER/llama.vim and FOLDER/hx. Exit code 3: not to be had here.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ -x "$folder/hx" ] && [ -d "$folder/llama.vim" ] && exit 0
command -v apt-get >/dev/null || exit 3
sources=/etc/apt/sources.list.d/debian.sources
[ -f $sources ] || exit 3
field() { sed -n "s/^$1: *//p" $sources | head -n 1 | cut -d ' ' -f 1; }

apt="$folder/apt"
mkdir -p "$apt/etc/sources.list.d" "$apt/etc/preferences.d" "$apt/etc/apt.conf.d" "$apt/state/lists/partial" "$apt/cache/archives/partial"
: >"$apt/state/status"
echo "deb [signed-by=$(field Signed-By)] $(field URIs) sid main" >"$apt/etc/sources.list"
options="-qq -o Dir::Etc=$apt/etc -o Dir::State=$apt/state -o Dir::State::status=$apt/state/status -o Dir::Cache=$apt/cache"
options="$options -o APT::Install-Recommends=false -o APT::Sandbox::User=$(id -un)"
apt-get $options update || exit 3
apt-get $options install -y --download-only hx >/dev/null || exit 3
# Without what it depends on: llama.cpp itself.
(cd "$apt/cache/archives" && apt-get $options download vim-llama.cpp >/dev/null) || exit 3
for package in "$apt"/cache/archives/*.deb; do dpkg -x "$package" "$folder/tree"; done
rm -rf "$apt"

ln -sfn tree/usr/share/vim-llama.cpp "$folder/llama.vim"
program=$(find "$folder/tree/usr" -type f -perm -u+x \( -name hx -o -name helix \) | head -n 1)
loader=$(find "$folder/tree" -name 'ld-linux*.so.*' | head -n 1)
runtime=$(find "$folder/tree/usr" -type d -name runtime -path '*h[ex]*' | head -n 1)
cat >"$folder/hx" <<END
#!/bin/sh
export HELIX_RUNTIME='$runtime'
exec '$loader' --library-path '$(dirname "$loader")' '$program' "\$@"
END
chmod +x "$folder/hx"
"$folder/hx" --version
