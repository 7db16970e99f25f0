#!/bin/bash
# The files of the Redis image in $OUT, from Debian's redis package: server, redis-cli and the libraries they need,
# nothing else. $OUT/root becomes the image's /, $OUT/version holds the version of Redis.
# The tests' servers of other releases are made in the same way (xtask/src/servers.rs), Valkey among them.
#   OUT, SUITE, SOURCES  folder to fill; Debian's code name; the machine's own package sources (one file name per word)
#   NAME                 redis (if not set) or valkey
set -euo pipefail
export TMPDIR=$OUT
read -ra sources <<<"$SOURCES"
packages=$OUT/packages root=$OUT/root name=${NAME:-redis}
mmdebstrap -q --variant=extract --include="$name-server,$name-tools" "$SUITE" "$packages" "${sources[@]}"

loader=$(readlink -f "$packages/lib64/ld-linux-x86-64.so.2" || true)
[ -f "$loader" ] || loader=$(find "$packages" -name 'ld-linux-x86-64.so.2' -type f | head -1)
libraries=$packages/usr/lib/x86_64-linux-gnu:$packages/lib/x86_64-linux-gnu
mkdir -p "$root"/{usr/bin,lib64,lib/x86_64-linux-gnu,etc,tmp,data}
chmod 1777 "$root/tmp"
install -m 755 "$loader" "$root/lib64/ld-linux-x86-64.so.2"
for program in "$name-server" "$name-cli"; do
  file=$(readlink -f "$packages/usr/bin/$program")
  install -m 755 "$file" "$root/usr/bin/$program"
  # "name => file (address)": every library must come out of the packages, not from this machine
  "$loader" --library-path "$libraries" --list "$file" | sed -n 's/.* => \(\/.*\) (0x.*/\1/p' | while read -r library; do
    case $library in
    "$packages"/*) install -m 644 "$(readlink -f "$library")" "$root/lib/x86_64-linux-gnu/$(basename "$library")" ;;
    *"/ld-linux-"*) ;;
    *) echo "$library is none of the packages' libraries" >&2; exit 1 ;;
    esac
  done
done
printf 'root:x:0:0::/:\nredis:x:999:999::/data:\n' >"$root/etc/passwd"
printf 'root:x:0:\nredis:x:999:\n' >"$root/etc/group"
"$loader" --library-path "$libraries" "$root/usr/bin/$name-server" --version | sed -n 's/.* v=\([0-9.]*\) .*/\1/p' >"$OUT/version"
[ -s "$OUT/version" ]
rm -rf "$packages"
