#!/usr/bin/env bash
# Runs a command with a real NFS 4.2 mount at /mnt/nfs, also where this machine's kernel knows no NFS:
#
#     tests/cluster/on_nfs.sh python -m pytest --basetemp=/mnt/nfs/tests tests/test_store.py
#
# It boots User Mode Linux, a kernel that is a process, on this machine's root, read-only; exports a folder to itself over
# its own loopback, and mounts that. Debian: user-mode-linux nfs-kernel-server nfs-common kmod iproute2; as root. What
# imports torch needs `sysctl vm.max_map_count=4000000` as well: each of its pages is a mapping of that process.
set -euo pipefail

if [ "${1:-}" != --booted ]; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    { declare -px PATH; printf 'cd %q\n' "$PWD"; printf '%q ' "$@"; } > "$scratch/command"
    linux.uml mem="${UML_MEMORY:-2G}" rootfstype=hostfs rootflags=/ ro quiet con=null con0=null,fd:1 \
        init="$(realpath "$0")" -- --booted "$scratch" < /dev/null > "$scratch/console" 2>&1 || true
    cat "$scratch/output" || { cat "$scratch/console"; exit 1; }
    exit "$(cat "$scratch/status")"
fi

export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt/home TMPDIR=/mnt/tmp PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
scratch=/mnt/scratch
mount -t tmpfs tmpfs /mnt
mkdir $scratch $HOME $TMPDIR /mnt/export /mnt/nfs /dev/shm
mount -t hostfs -o "$2" none $scratch
for folder in /run /var/lib/nfs /dev/shm; do mount -t tmpfs tmpfs $folder; done
ip link set lo up
for module in oid_registry sunrpc auth_rpcgss grace lockd nfs_acl dns_resolver netfs fscache nfs nfsv4 nfsd; do
    find "/usr/lib/uml/modules/$(uname -r)" -name "$module.ko" -exec insmod {} \;
done
mkdir -p /var/lib/nfs/v4recovery /var/lib/nfs/rpc_pipefs
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mount -t nfsd nfsd /proc/fs/nfsd
mount -t rpc_pipefs rpc_pipefs /var/lib/nfs/rpc_pipefs
exportfs -o rw,no_root_squash,fsid=0,no_subtree_check,insecure 127.0.0.1:/mnt/export
rpc.mountd
rpc.nfsd -N 3 4
mount -t nfs4 -o vers=4.2 127.0.0.1:/ /mnt/nfs
mkdir /mnt/other # the same folder, as another machine sees it
mount -t nfs4 -o vers=4.2,nosharecache 127.0.0.1:/ /mnt/other
# The server refuses locks until clients of a former life had time to claim theirs; there were none.
echo Y > /proc/fs/nfsd/v4_end_grace || true
status=0
bash "$scratch/command" > $scratch/output 2>&1 || status=$?
echo $status > $scratch/status
echo o > /proc/sysrq-trigger
sleep 60
