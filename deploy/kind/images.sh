#!/bin/bash
# Stage 2 of the assembled node image: the images of the control plane as archives in $WORK/images.
# Their names are those that kubeadm and kind ask for, so nothing is pulled later.
#   WORK, BIN, KIND_SOURCE, KUBERNETES_VERSION  as in rootfs.sh, which has run before
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$WORK/images"

wanted=$("$BIN/kubeadm" config images list --kubernetes-version "$KUBERNETES_VERSION")
kubernetes() { grep "/$1:" <<<"$wanted"; }
storage() { sed -n "s/^const $1 = \"\(.*\)\"/\1/p" "$KIND_SOURCE/pkg/build/nodeimage/const_storage.go"; }
pause=$(sed -n 's/.*sandbox_image = "\(.*\)"/\1/p' "$KIND_SOURCE/images/base/files/etc/containerd/config.toml")
image() { /usr/bin/python3 "$here/mkimage.py" "$WORK/images/$1.tar" "${@:2}"; }
busybox=/bin/busybox
applets() { for name in "$@"; do echo "@busybox:/bin/$name"; done; }

for name in kube-apiserver kube-controller-manager kube-scheduler etcd; do
  image $name "$(kubernetes $name)" "[\"/usr/local/bin/$name\"]" "$BIN/$name:/usr/local/bin/$name"
done
iptables=()
for name in iptables ip6tables; do
  for suffix in "" -save -restore; do iptables+=("@$name-nft$suffix:/usr/sbin/$name$suffix"); done
done
image kube-proxy "$(kubernetes kube-proxy)" '["/usr/local/bin/kube-proxy"]' --base "$WORK/proxy.tar" \
  "$BIN/kube-proxy:/usr/local/bin/kube-proxy" "${iptables[@]}"
image coredns "$(kubernetes coredns)" '["/coredns"]' "$BIN/coredns:/coredns"
image pause "$pause" '["/pause", "-P"]' /usr/bin/catatonit:/pause
image storage "$(storage storageProvisionerImage)" '["/usr/local/bin/local-path-provisioner"]' \
  "$BIN/local-path-provisioner:/usr/local/bin/local-path-provisioner"
image storage-helper "$(storage storageHelperImage)" '["/bin/sh"]' $busybox:/bin/busybox $(applets sh mkdir rm)
image node-routes localhost/node-routes:1 '["/bin/busybox"]' $busybox:/bin/busybox $(applets sh cat chroot sleep mv printf)
