/* blimg disk: an image as a disk that a guest mounts. */
#include <stdio.h>
#include <string.h>

#include "blimg.h"

static int32_t show(const bl_progress *progress, void *user_data)
{
  (void)user_data;
  fprintf(stderr, "\r%llu entries", (unsigned long long)progress->entries);
  fflush(stderr);
  return 0;
}

static int print_disk(const app *a, const bl_disk *disk)
{
  bl_disk_info info = BL_DISK_INFO_INIT;
  bl_error *err = NULL;
  size_t i;
  if (bl_disk_get_info(disk, &info, &err)) return failed(a, err);
  if (!a->json) {
    if (prints(a)) puts(bl_disk_text(disk, BL_DISK_TEXT_PATH));
    return 0;
  }
  putchar('{');
  json_text("path", bl_disk_text(disk, BL_DISK_TEXT_PATH));
  putchar(',');
  json_text("format", bl_disk_text(disk, BL_DISK_TEXT_FORMAT));
  putchar(',');
  json_text("fs", bl_disk_text(disk, BL_DISK_TEXT_FILE_SYSTEM));
  printf(",\"size\":%llu,\"allocated\":%llu,\"entries\":%llu,", (unsigned long long)info.size_bytes,
         (unsigned long long)info.allocated_bytes, (unsigned long long)info.entries);
  json_text("uuid", bl_disk_text(disk, BL_DISK_TEXT_UUID));
  putchar(',');
  json_text("key", bl_disk_text(disk, BL_DISK_TEXT_KEY));
  printf(",\"cached\":%s,\"root_hash\":null,\"verity_table\":null,", info.cached ? "true" : "false");
  json_text("kernel_args", bl_disk_text(disk, BL_DISK_TEXT_KERNEL_ARGS));
  printf(",\"parts\":[");
  for (i = 0; i < info.parts; i++) {
    bl_disk_part part = BL_DISK_PART_INIT;
    if (bl_disk_get_part(disk, i, &part, &err)) return failed(a, err);
    printf(i ? ",{" : "{");
    json_text("path", part.path);
    printf(",\"offset\":%llu,\"length\":%llu}", (unsigned long long)part.offset_bytes,
           (unsigned long long)part.length_bytes);
  }
  printf("],\"anomalies\":%llu}\n", (unsigned long long)info.anomalies);
  return 0;
}

static int run_disk(app *a)
{
  static const char *const formats[] = {"ext4", "erofs", NULL};
  const char *image_name = a->given.args[0], *out = a->given.args[1];
  bl_disk_options making = BL_DISK_OPTIONS_INIT;
  bl_disk *disk = NULL;
  bl_image *image = NULL;
  bl_lease *lease = NULL;
  bl_error *err = NULL;
  bl_status status;
  const int is_kept = option_flag(&a->given, "--cached", 1) != 0;
  int result;
  making.format = (uint32_t)option_word(&a->given, "--format", formats);
  if (option_flag(&a->given, "--merged", 1)) {
    making.layout = BL_DISK_LAYOUT_MERGED;
    /* There is no other that can be. */
    if (!option_text(&a->given, "--format")) making.format = BL_DISK_EROFS;
  }
  making.flags = option_flag(&a->given, "--replace", BL_DISK_FLAG_REPLACE) | option_flag(&a->given, "--direct", BL_DISK_FLAG_DIRECT);
  making.flags |= option_flag(&a->given, "--journal", BL_DISK_FLAG_JOURNAL) | option_flag(&a->given, "--growable", BL_DISK_FLAG_GROWABLE);
  making.size_bytes = option_size(&a->given, "--size");
  making.free_bytes = option_size(&a->given, "--free");
  if (making.flags & BL_DISK_FLAG_JOURNAL && option_text(&a->given, "--journal")[0]) making.journal_bytes = option_size(&a->given, "--journal");
  making.label = option_text(&a->given, "--label");
  making.uuid = option_text(&a->given, "--uuid");
  making.max_mtime_seconds = (int64_t)option_number(&a->given, "--mtime-max", INT64_MAX);
  making.cancel = on_interrupt;
  if (is_shown(a)) making.progress = show;
  if (a->given.is_wrong) return 2;
  if (is_kept && out) return wrong_usage(a->given.command, "--cached is for the store, and takes no OUT");
  if (!is_kept && !out) return wrong_usage(a->given.command, "OUT is missing");
  if (out && !strcmp(out, "-")) return wrong_usage(a->given.command, "OUT is -, and a disk is not for a pipe");
  if (bl_image_open(a->storage, image_name, &image, &err)) return failed(a, err);
  status = is_kept ? bl_keep_disk(a->storage, image, &making, &disk, &lease, &err)
                   : bl_create_disk(a->storage, image, out, &making, &disk, &err);
  bl_image_free(image);
  end_progress(a);
  if (status) return failed(a, err);
  /* The image's name holds it. */
  if (lease && bl_lease_release(lease, &err)) result = failed(a, err);
  else result = print_disk(a, disk);
  bl_lease_free(lease);
  bl_disk_free(disk);
  return result;
}

static const option disk_options[] = {
  {"--format", "FORMAT", "ext4 (the default), erofs"},
  {"--merged", NULL, "EROFS as a directory: metadata, the layers' own disks and a VMDK descriptor"},
  {"--size", "SIZE", "of an ext4; what it needs by default"},
  {"--free", "SIZE", "to be free in an ext4"},
  {"--journal", "[=SIZE]", "an ext4 with a journal, for guests that write"},
  {"--growable", NULL, "an ext4 that can grow while it is mounted"},
  {"--label", "LABEL", "of the file system, at most 16 bytes in ext4 and 15 in EROFS"},
  {"--uuid", "UUID", "of the file system; made of the layers and the options by default"},
  {"--mtime-max", "SECONDS", "since 1970: what was modified later has this time"},
  {"--cached", NULL, "no OUT: keep it in the store, where it is found again"},
  {"--direct", NULL, "leave no disks of layers in the store that are not there yet"},
  {"--replace", NULL, "take the place of what is there"},
  {NULL, NULL, NULL},
};
const command disk_command = {"disk", "IMAGE [OUT]", "make a disk of an image that a guest mounts", disk_options, run_disk};
