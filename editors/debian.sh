# For install.sh and unpack.sh to read in: packages of Debian's unstable suite, unpacked beside the system and not into it.
# `debian_unpack FOLDER PACKAGE [ALONE]` leaves them in FOLDER/tree: PACKAGE with what it depends on, down to the libraries that it
# was built for, and ALONE without. Leaves the script with exit code 3 where they are not to be had.
debian_unpack() {
  command -v apt-get >/dev/null || exit 3
  sources=/etc/apt/sources.list.d/debian.sources
  [ -f $sources ] || exit 3
  field() { sed -n "s/^$1: *//p" $sources | head -n 1 | cut -d ' ' -f 1; }

  apt="$1/apt"
  mkdir -p "$apt/etc/sources.list.d" "$apt/etc/preferences.d" "$apt/etc/apt.conf.d" "$apt/state/lists/partial" "$apt/cache/archives/partial"
  : >"$apt/state/status"
  echo "deb [signed-by=$(field Signed-By)] $(field URIs) sid main" >"$apt/etc/sources.list"
  options="-qq -o Dir::Etc=$apt/etc -o Dir::State=$apt/state -o Dir::State::status=$apt/state/status -o Dir::Cache=$apt/cache"
  options="$options -o APT::Install-Recommends=false -o APT::Sandbox::User=$(id -un)"
  apt-get $options update || exit 3
  apt-get $options install -y --download-only "$2" >/dev/null || exit 3
  if [ -n "${3:-}" ]; then
    (cd "$apt/cache/archives" && apt-get $options download "$3" >/dev/null) || exit 3
  fi
  for package in "$apt"/cache/archives/*.deb; do dpkg -x "$package" "$1/tree"; done
  rm -rf "$apt"
}
