#!/bin/sh
# Unpacks Neovim 0.12 from Debian's unstable suite into the folder given, beside the system and not into it: with the
# libraries that it was built for. `sh install.sh FOLDER` leaves FOLDER/nvim. Exit code 3: not to be had here.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ -x "$folder/nvim" ] && exit 0
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
apt-get $options install -y --download-only neovim >/dev/null || exit 3
for package in "$apt"/cache/archives/*.deb; do dpkg -x "$package" "$folder/tree"; done
rm -rf "$apt"

library=$(dirname "$(find "$folder/tree" -name 'ld-linux*.so.*' | head -n 1)")
cat >"$folder/nvim" <<END
#!/bin/sh
export VIM='$folder/tree/usr/share/nvim' VIMRUNTIME='$folder/tree/usr/share/nvim/runtime' LUA_CPATH='$library/lua/5.1/?.so;;'
exec $(find "$folder/tree" -name 'ld-linux*.so.*' | head -n 1) --library-path '$library' '$folder/tree/usr/bin/nvim' "\$@"
END
chmod +x "$folder/nvim"
"$folder/nvim" --version | head -n 1
