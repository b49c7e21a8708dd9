# Keys are made, read back, listed, and used to sign and to verify.
set -eu
ssh-keygen -q -t ed25519 -N '' -C comment -f key
ssh-keygen -y -f key | cmp - key.pub && echo "same key"
ssh-keygen -l -f key.pub | cut -d ' ' -f 1,3-
echo message > message
ssh-keygen -Y sign -q -n file -f key message 2> /dev/null
echo "me $(cat key.pub)" > allowed
ssh-keygen -Y verify -f allowed -I me -n file -s message.sig < message > /dev/null && echo verified
echo "keys done"
