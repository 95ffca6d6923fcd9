#!/bin/sh
# Unpacks llama.vim and Helix from Debian's unstable suite into the folder given, beside the system and not into it; Helix with the
# libraries that it was built for. `sh unpack.sh FOLDER` leaves FOLDER/llama.vim and FOLDER/hx. Exit code 3: not to be had here.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ -x "$folder/hx" ] && [ -d "$folder/llama.vim" ] && exit 0
. "$(dirname "$0")/../../editors/debian.sh"
# llama.vim without what it depends on: llama.cpp itself.
debian_unpack "$folder" hx vim-llama.cpp

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
