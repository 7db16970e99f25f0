#!/usr/bin/python3
"""Writes a one-layer docker archive without any container tool (standard library only).

mkimage.py OUT.tar REF ENTRYPOINT-JSON [--base TAR] [SRC:DST | @TARGET:DST]...

SRC:DST copies a program to DST (mode 755, root's); @TARGET:DST makes the symlink DST -> TARGET;
--base starts from the files of a root file system. Times are zero, so the same input gives the same image.
"""
import hashlib
import io
import json
import os
import sys
import tarfile

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def add_folders(layer, seen, path):
    """The parents of `path`, each once; /tmp is everybody's."""
    parts = path.split("/")
    for i in range(1, len(parts)):
        folder = "/".join(parts[:i])
        if folder and folder not in seen:
            seen.add(folder)
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if folder == "tmp" else 0o755
            layer.addfile(entry)


def add_base(layer, seen, base):
    with tarfile.open(base) as files:
        for member in files:
            name = member.name.lstrip("./")
            if not name or member.ischr() or member.isblk():
                continue
            member.name = name
            seen.add(name)
            layer.addfile(member, files.extractfile(member) if member.isreg() else None)


def add_file(layer, seen, argument):
    source, target = argument.split(":", 1)
    target = target.lstrip("/")
    add_folders(layer, seen, target)
    if source.startswith("@"):
        entry = tarfile.TarInfo(target)
        entry.type = tarfile.SYMTYPE
        entry.linkname = source[1:]
        layer.addfile(entry)
        return
    entry = tarfile.TarInfo(target)
    entry.size = os.path.getsize(source)
    entry.mode = 0o755
    with open(source, "rb") as content:
        layer.addfile(entry, content)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as content:
        for chunk in iter(lambda: content.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def main(out, reference, entrypoint, *rest):
    base, files = None, []
    arguments = iter(rest)
    for argument in arguments:
        if argument == "--base":
            base = next(arguments)
        else:
            files.append(argument)
    layer_file = out + ".layer"
    with tarfile.open(layer_file, "w", format=tarfile.GNU_FORMAT) as layer:
        seen = set()
        if base:
            add_base(layer, seen, base)
        add_folders(layer, seen, "tmp/x")
        for argument in files:
            add_file(layer, seen, argument)
    diff_id = sha256(layer_file)
    config = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": json.loads(entrypoint), "Env": [PATH], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + diff_id]},
        "history": [{"created_by": "mkimage"}],
    }).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    layer_name = diff_id + "/layer.tar"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [reference], "Layers": [layer_name]}]).encode()
    with tarfile.open(out, "w") as archive:
        for name, content in ((config_name, config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        entry = tarfile.TarInfo(layer_name)
        entry.size = os.path.getsize(layer_file)
        with open(layer_file, "rb") as content:
            archive.addfile(entry, content)
    os.unlink(layer_file)
    print(f"{reference} {os.path.getsize(out) / 1e6:.1f} MB")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
