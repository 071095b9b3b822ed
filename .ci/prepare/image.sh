# A small real image, an OCI layout. The script that builds one is beside the checkout.
../shared/bench/make-image.sh "$CI_IMAGE" small
