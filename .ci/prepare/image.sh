# A small real image, an OCI layout. The script that builds one is beside the checkout.
[ -x ../shared/bench/make-image.sh ] || { echo "../shared/bench/make-image.sh, which builds an image, is missing"; exit 1; }
../shared/bench/make-image.sh "$CI_IMAGE" small
