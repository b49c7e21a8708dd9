# Ends a node and removes all of it, also that of a run which crashed. Does nothing until its input ends: as
# guardian it waits for its test. $1 is the state folder; it may be missing.
cat >/dev/null
state=$1
unified=/sys/fs/cgroup/unified
[ -d $unified ] || unified=/sys/fs/cgroup

# The daemons are in one cgroup, pods in the other; that one is ours only if our kubelet was to make it.
groups=gadgetd-e2e
[ -e "$state/owns-kubepods" ] && groups="$groups kubepods"
for group in $groups; do
  # Without a pod there is none in this hierarchy, but the kubelet has made those of the others.
  if [ -d "$unified/$group" ]; then
    echo 1 >"$unified/$group/cgroup.kill"
    for attempt in $(seq 100); do
      grep -q '^populated 0' "$unified/$group/cgroup.events" && break
      sleep 0.1
    done
  fi
  find /sys/fs/cgroup -depth -type d -path "/sys/fs/cgroup/*$group*" -exec rmdir {} + 2>/dev/null
done

# Mounts, rules and the bridge went with the namespaces; the kernel takes its time for the link between them.
ip link delete gadgetd-e2e 2>/dev/null
rm -rf --one-file-system "$state"
