# What run.sh and wrap.sh share. To be sourced, with the repository in $root and a folder to work in in $work.

# A small image's layout.
make_layout() {
  cargo run -q --locked --manifest-path "$root/Cargo.toml" --target-dir "$root/target" --example make-layout -- "$1" >/dev/null
}

runs() { # what it is, a program, how often the library must be among what it loads
  "$2" "$work/store-$1" "$work/layout" >"$work/out" || { cat "$work/out"; echo "$1 does not run"; exit 1; }
  [ "$(readelf -d "$2" | grep -c 'NEEDED.*libboxlite_images.so.0')" = "$3" ] || { echo "$1 is linked otherwise"; exit 1; }
  echo "ok: $1"
}
