# A repository: commits, a branch, a merge, a pack, a clone.
set -eu
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export GIT_AUTHOR_NAME=Author GIT_AUTHOR_EMAIL=author@example.org GIT_AUTHOR_DATE='2024-01-01T00:00:00Z'
export GIT_COMMITTER_NAME=Author GIT_COMMITTER_EMAIL=author@example.org GIT_COMMITTER_DATE='2024-01-01T00:00:00Z'
git init --quiet --initial-branch=main repository
cd repository
echo one > file
git add file
git commit --quiet -m first
git checkout --quiet -b side
echo two >> file
git commit --quiet -am second
git checkout --quiet main
echo other > other
git add other
git commit --quiet -m third
git merge --quiet -m merged side
git repack -a -d --quiet --threads=1
git fsck --no-progress
git --no-pager log --format='%h %s'
cd ..
git clone --quiet repository copy
git -C copy status --short --branch
echo "git done"
