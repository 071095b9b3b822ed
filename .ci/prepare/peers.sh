# The newest podman and crane, in a folder to chroot into.
../shared/bench/peers.sh "$CI_PEERS"
