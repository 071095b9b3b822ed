/* blimg rootfs: an image's root file system in a directory. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "blimg.h"

static int set_mode(bl_rootfs_options *options, const char *mode)
{
  static const char *const modes[] = {"copy", "reflink", "hardlink", "direct"};
  static const uint32_t numbers[] = {BL_ROOTFS_COPY, BL_ROOTFS_REFLINK, BL_ROOTFS_HARDLINK, BL_ROOTFS_DIRECT};
  size_t i;
  for (i = 0; i < sizeof(modes) / sizeof(*modes); i++)
    if (!strcmp(mode, modes[i])) return options->mode = numbers[i], 1;
  return 0;
}

static int set_options(bl_rootfs_options *options, char **args)
{
  for (; *args; args++) {
    if (!strcmp(*args, "--replace"))
      options->flags |= BL_ROOTFS_REPLACE;
    else if (!strcmp(*args, "--devices"))
      options->flags |= BL_ROOTFS_DEVICE_NODES;
    else if (!strcmp(*args, "--override-stat"))
      options->flags |= BL_ROOTFS_OVERRIDE_STAT;
    else if (!strcmp(*args, "--record") && args[1])
      options->record_path = *++args;
    else if (strcmp(*args, "--mode") || !args[1] || !set_mode(options, *++args))
      return 0;
  }
  return 1;
}

static int32_t show(const bl_progress *progress, void *user_data)
{
  (void)user_data;
  fprintf(stderr, "\r%llu entries", (unsigned long long)progress->entries);
  fflush(stderr);
  return 0;
}

int cmd_rootfs(const app *a, char **args)
{
  bl_rootfs_options options = BL_ROOTFS_OPTIONS_INIT;
  bl_rootfs_result result = BL_ROOTFS_RESULT_INIT;
  bl_image *image = NULL;
  bl_error *err = NULL;
  bl_status status;
  int is_shown = !a->quiet && !a->json && isatty(2);
  if (!args[0] || !args[1] || !set_options(&options, args + 2)) return usage();
  options.cancel = on_interrupt;
  if (is_shown) options.progress = show;
  if (bl_image_open(a->storage, args[0], &image, &err)) return failed(err);
  status = bl_assemble_rootfs(a->storage, image, args[1], &options, &result, &err);
  bl_image_free(image);
  if (is_shown) fputs("\r\033[K", stderr);
  if (status) return failed(err);
  if (a->json) {
    printf("{\"rootfs\":");
    json_string(args[1]);
    printf(",\"layers\":%llu,\"entries\":%llu,\"anomalies\":%llu}\n", (unsigned long long)result.layers,
           (unsigned long long)result.entries, (unsigned long long)result.anomalies);
  } else if (!a->quiet) {
    printf("%s: %llu entries of %llu layers\n", args[1], (unsigned long long)result.entries,
           (unsigned long long)result.layers);
  }
  return 0;
}
