/* How long a pull takes to end once it is cancelled. Arguments: store, registry on loopback, repository, milliseconds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "boxlite_images.h"

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int main(int argc, char **argv)
{
  bl_registry_options local = BL_REGISTRY_OPTIONS_INIT;
  const bl_registry_options *registries[] = {&local, NULL};
  bl_pull_options options = BL_PULL_OPTIONS_INIT;
  bl_storage *storage = NULL;
  bl_image *image = NULL;
  bl_op *op = NULL;
  bool finished = false;
  char reference[512];
  double started;
  if (argc != 5) return 2;
  local.host = argv[2];
  local.flags = BL_REGISTRY_PLAIN_HTTP;
  options.registries = registries;
  snprintf(reference, sizeof reference, "%s/%s", argv[2], argv[3]);
  if (bl_storage_open(argv[1], NULL, &storage, NULL) || bl_pull_start(storage, reference, &options, &op, NULL)) return 1;
  if (bl_op_wait(op, atoi(argv[4]), &finished, NULL) || finished) return 1;
  started = now();
  bl_op_cancel(op);
  if (bl_op_wait(op, -1, &finished, NULL)) return 1;
  printf("%.3f\n", now() - started);
  if (bl_op_finish(op, &image, NULL) != BL_E_CANCELLED) return 1;
  bl_op_free(op);
  bl_storage_close(storage);
  return 0;
}
