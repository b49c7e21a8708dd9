# Furnishes the node's own mount and network namespace. Runs in it; everything done here ends with it.
#   $1 state folder   $2 node address/prefix   $3 bridge   $4 bridge address/prefix   $5 service range
set -euo pipefail
state=$1 address=$2 bridge=$3 gateway=$4 services=$5

# The node has the usual paths to itself. Mounts from outside still come in, none go out, and pods may ask for
# propagation.
mount --make-rshared /
mkdir -p "$state"/{lib,log,sysctl}
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
mount --bind "$state/lib" /var/lib
mount --bind "$state/log" /var/log
mount -t bpf bpf /sys/fs/bpf
mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing

# What the kubelet would set for the whole machine, it finds set.
shield() {
  local file=/proc/sys/$1 fake=$state/sysctl/${1//\//.}
  echo "$2" >"$fake"
  mount --bind "$fake" "$file"
}
shield vm/overcommit_memory 1
shield vm/panic_on_oom 0
shield kernel/panic 10
shield kernel/panic_on_oops 1
shield kernel/keys/root_maxkeys 1000000
shield kernel/keys/root_maxbytes 25000000

# No default route: nothing that a pod or the node sends leaves the machine. Service addresses need some route
# before kube-proxy's rules see them.
ip link set lo up
ip address add "$address" dev eth0
ip link set eth0 up
ip link add "$bridge" type bridge
ip address add "$gateway" dev "$bridge"
ip link set "$bridge" up
ip route add "$services" dev "$bridge" src "${address%/*}"
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
