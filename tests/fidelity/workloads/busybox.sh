# One static binary for everything: the shell and its tools come from busybox.
set -eu
busybox mkdir tree
for name in a b c; do echo "text $name" > "tree/$name"; done
busybox tar -cf tree.tar tree
busybox gzip tree.tar
busybox gunzip -c tree.tar.gz | busybox tar -tf - | busybox sort
busybox find tree -type f | busybox xargs busybox cat | busybox sort | busybox awk '{ print NR, $2 }'
busybox md5sum tree/a
busybox sed -i s/text/word/ tree/b && busybox cat tree/b
busybox dd if=/dev/zero of=zeros bs=512 count=4 2> /dev/null && busybox stat -c %s zeros
busybox timeout 5 busybox sleep 0.01
busybox rm -r tree
echo "busybox done"
