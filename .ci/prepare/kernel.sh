# The kernel of Debian 12's cloud images, 6.1, and its modules, in a folder.
mkdir -p "$CI_KERNEL.new"
cd "$CI_KERNEL.new"
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-6\.1\.[^ ]*-cloud-amd64\)$/\1/p' | head -n 1)
apt-get download -q "$package"
dpkg -x linux-image-*.deb .
depmod -b . "${package#linux-image-}"
cd -
mv "$CI_KERNEL.new" "$CI_KERNEL"
