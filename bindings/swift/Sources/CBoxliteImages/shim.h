/* The header that is installed, wherever pkg-config says. */
#include <boxlite_images.h>
