#!/bin/sh
# Unpacks Neovim 0.12 from Debian's unstable suite into the folder given, beside the system and not into it: with the
# libraries that it was built for. `sh install.sh FOLDER` leaves FOLDER/nvim. Exit code 3: not to be had here.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ -x "$folder/nvim" ] && exit 0
. "$(dirname "$0")/../../debian.sh"
debian_unpack "$folder" neovim

library=$(dirname "$(find "$folder/tree" -name 'ld-linux*.so.*' | head -n 1)")
cat >"$folder/nvim" <<END
#!/bin/sh
export VIM='$folder/tree/usr/share/nvim' VIMRUNTIME='$folder/tree/usr/share/nvim/runtime' LUA_CPATH='$library/lua/5.1/?.so;;'
exec $(find "$folder/tree" -name 'ld-linux*.so.*' | head -n 1) --library-path '$library' '$folder/tree/usr/bin/nvim' "\$@"
END
chmod +x "$folder/nvim"
"$folder/nvim" --version | head -n 1
