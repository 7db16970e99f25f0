#!/bin/bash
# Stage 1 of the assembled node image: the root file system of a node, in $WORK/rootfs.
# What kind's images/base/Dockerfile does, on Debian's packages and on the programs of $BIN. Needs root (chroot).
#   WORK                folder of this assembly, empty at the start
#   BIN                 the programs built from the wrapper modules; $BIN/cni has the CNI plugins
#   KIND_SOURCE         kind's module in the module cache
#   KUBERNETES_VERSION  v1.2.3
#   SUITE, SOURCES      Debian's code name; the machine's own package sources (one file name per word)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export TMPDIR=$WORK
read -ra sources <<<"$SOURCES"

no_docs=(--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*')
mmdebstrap -q --variant=minbase "${no_docs[@]}" \
  --include=systemd,conntrack,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod,libseccomp2,pigz,e2fsprogs,bash,ca-certificates,curl,jq,procps,runc \
  "$SUITE" "$WORK/base.tar" "${sources[@]}"
# kube-proxy's image needs nothing but iptables and what it calls
mmdebstrap -q --variant=extract --include=iptables,nftables,conntrack,kmod "$SUITE" "$WORK/proxy.tar" "${sources[@]}"

root=$WORK/rootfs
mkdir "$root"
tar -xpf "$WORK/base.tar" -C "$root" --exclude='./dev/*'
rm "$WORK/base.tar"
cp -r --no-preserve=mode "$KIND_SOURCE/images/base/files/." "$root/"
chmod 755 "$root"/usr/local/bin/* "$root"/kind "$root"/kind/bin "$root"/kind/bin/*

# systemd: only what a node needs
units=$root/usr/lib/systemd/system
rm -f "$units"/sysinit.target.wants/systemd-tmpfiles-setup.service "$units"/{multi-user,local-fs,basic}.target.wants/* \
  "$root"/etc/systemd/system/*.wants/* "$units"/sockets.target.wants/*udev* "$units"/sockets.target.wants/*initctl*
echo ReadKMsg=no >>"$root/etc/systemd/journald.conf"
ln -sf /usr/lib/systemd/systemd "$root/usr/sbin/init"
chroot "$root" systemctl enable kubelet.service containerd.service undo-mount-hacks.service
chroot "$root" systemctl mask systemd-binfmt.service

mkdir -p "$root"/etc/kubernetes/manifests "$root"/opt/cni/bin "$root"/etc/cni/net.d "$root"/kind/manifests
install "$BIN"/{containerd,containerd-shim-runc-v2,ctr} "$root/usr/local/bin/"
install "$BIN"/{kubelet,kubeadm,kubectl} "$root/usr/bin/"
install "$BIN"/cni/* "$root/opt/cni/bin/"

# Where CAP_SYS_RESOURCE is missing, a container may neither lower oom_score_adj nor have rlimits of its own.
sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' "$root/etc/containerd/config.toml"
"$BIN/ctr" oci spec |
  chroot "$root" jq '.hooks.createContainer += [{"path": "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
    >"$root/etc/containerd/cri-base.json"

install -m 755 "$here/files/entrypoint-wrapper" "$root/usr/local/bin/"
install -m 644 "$here/files/default-cni.yaml" "$root/kind/manifests/"
# kind's storage manifest is a Go string: read it, and the two images that it names, out of the source
storage=$KIND_SOURCE/pkg/build/nodeimage/const_storage.go
constant() { sed -n "s/^const $1 = \"\(.*\)\"/\1/p" "$storage"; }
sed -n '/^const defaultStorageManifest = `/,/^`/p' "$storage" | sed -e '1d' -e '$d' \
  -e "s#\` + storageProvisionerImage + \`#$(constant storageProvisionerImage)#" \
  -e "s#\` + storageHelperImage + \`#$(constant storageHelperImage)#" >"$root/kind/manifests/default-storage.yaml"
printf %s "$KUBERNETES_VERSION" >"$root/kind/version"
