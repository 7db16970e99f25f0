#!/bin/bash
# Stage 3 of the assembled node image: the images of stage 2 go into the content store of the root file system
# of stage 1, by a containerd of its own that runs for this only; then all of it becomes $OUT.
#   WORK, BIN  as in rootfs.sh
#   OUT        the archive to write (tar, zstd)
set -euo pipefail
root=$WORK/rootfs run=$WORK/containerd
mkdir -p "$run"
cat >"$run/config.toml" <<C
version = 3
root = "$root/var/lib/containerd"
state = "$run/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images", "io.containerd.nri.v1.nri"]
[grpc]
address = "$run/sock"
C
# --pdeathsig: it must not outlive this script, whatever ends the script
setpriv --pdeathsig TERM "$BIN/containerd" --config "$run/config.toml" >"$run/log" 2>&1 &
pid=$!
ctr() { "$BIN/ctr" --address "$run/sock" --namespace k8s.io "$@"; }
for _ in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep .1; done
for archive in "$WORK"/images/*.tar; do
  ctr images import --label=io.cri-containerd.pinned=pinned --all-platforms --no-unpack --digests "$archive" ||
    { tail -5 "$run/log"; kill "$pid"; exit 1; }
  rm "$archive"
done
kill "$pid"
wait "$pid" || true
tar -C "$root" -c . | zstd -q -T0 -3 -f -o "$OUT"
