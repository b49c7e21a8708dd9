# Walks trees and files: find with an action, grep, awk, sed, cut, uniq, sort in a temporary file.
set -eu
mkdir -p tree/one/two
for name in a b c; do seq 1 500 | sed "s/^/$name /" > "tree/one/$name"; done
cp tree/one/a tree/one/two/d
find tree -type f -newermt 2000-01-01 -exec grep -c ' 4.$' {} + | sort
touch tree/one/x.none && find tree -name '*.none' -print -delete
grep -rn 'b 77' tree
cat tree/one/? | sort -S 32K -k 2n -k 1 -T . | awk '{ s[$1] += $2 } END { for (k in s) print k, s[k] }' | sort
awk 'BEGIN { "echo from awk" | getline line; print line; print "to sort" | "sort" }'
cut -d ' ' -f 1 tree/one/two/d | uniq -c
du -s --apparent-size tree > /dev/null
echo "search done"
