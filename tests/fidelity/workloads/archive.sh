# An archive with links, permissions and a compressor in a process of its own, packed and unpacked.
set -eu
mkdir -p source/deep/er
seq 1 2000 > source/numbers
ln source/numbers source/hard
ln -s numbers source/soft
touch -d '2024-01-01T00:00:00Z' source/deep/er/old
chmod 640 source/numbers
tar --create --file archive.tar.gz --gzip source
mkdir target
tar --extract --gunzip --file archive.tar.gz --directory target
diff -r source target/source && echo same
seq 1 5000 > alone && gzip --best alone && gzip --test alone.gz
cp --archive source again && rm --recursive again
echo "archive done"
