/* blimg disk: an image as a disk that a guest mounts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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
  printf(",\"cached\":%s,", info.cached ? "true" : "false");
  json_text("root_hash", bl_disk_text(disk, BL_DISK_TEXT_ROOT_HASH));
  putchar(',');
  json_text("verity_table", bl_disk_text(disk, BL_DISK_TEXT_VERITY_TABLE));
  putchar(',');
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

/* The files of a command line. */
enum { MOST_FILES = 64 };
typedef struct {
  bl_disk_file files[MOST_FILES];
  const bl_disk_file *list[MOST_FILES + 1];
} injected;

/* A number of these digits; is_wrong where it is none. */
static uint32_t number_of(app *a, const char *text, int base)
{
  char *end;
  unsigned long value;
  errno = 0;
  value = strtoul(text, &end, base);
  if (*text < '0' || *text > '9' || *end || errno || value > UINT32_MAX) {
    if (!a->given.is_wrong) a->given.is_wrong = wrong_usage(a->given.command, "--inject: '%s' is no number", text);
    return 0;
  }
  return (uint32_t)value;
}

/* Takes SRC:DST[:MODE[:UID:GID]] apart, in place. */
static void inject(app *a, bl_disk_file *file, char *value)
{
  char *fields[5] = {value};
  size_t count = 1;
  char *colon;
  while (count < 5 && (colon = strchr(fields[count - 1], ':'))) {
    *colon = '\0';
    fields[count++] = colon + 1;
  }
  if ((count != 2 && count != 3 && count != 5) || strchr(fields[count - 1], ':')) {
    if (!a->given.is_wrong) a->given.is_wrong = wrong_usage(a->given.command, "--inject is SRC:DST[:MODE[:UID:GID]]");
    return;
  }
  *file = bl_disk_file_init();
  file->source = fields[0];
  file->path = fields[1];
  if (count > 2) file->mode = number_of(a, fields[2], 8);
  if (count > 3) {
    file->uid = number_of(a, fields[3], 10);
    file->gid = number_of(a, fields[4], 10);
  }
}

static void inject_all(app *a, injected *to, bl_disk_options *making)
{
  size_t at = 0, count = 0;
  const char *value;
  while ((value = option_next(&a->given, "--inject", &at))) {
    if (count == MOST_FILES) {
      a->given.is_wrong = wrong_usage(a->given.command, "more than %d files", (int)MOST_FILES);
      return;
    }
    /* A program may write to its own arguments. */
    inject(a, &to->files[count], (char *)(uintptr_t)value);
    to->list[count] = &to->files[count];
    count++;
  }
  to->list[count] = NULL;
  if (count) making->files = to->list;
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
  const char *empty = option_text(&a->given, "--empty");
  injected files;
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
  making.flags |= option_flag(&a->given, "--verity", BL_DISK_FLAG_VERITY);
  making.size_bytes = option_size(&a->given, empty ? "--empty" : "--size");
  making.free_bytes = option_size(&a->given, "--free");
  if (making.flags & BL_DISK_FLAG_JOURNAL && option_text(&a->given, "--journal")[0]) making.journal_bytes = option_size(&a->given, "--journal");
  making.top_layer_path = option_text(&a->given, "--top");
  inject_all(a, &files, &making);
  making.label = option_text(&a->given, "--label");
  making.uuid = option_text(&a->given, "--uuid");
  making.max_mtime_seconds = (int64_t)option_number(&a->given, "--mtime-max", INT64_MAX);
  making.cancel = on_interrupt;
  if (is_shown(a)) making.progress = show;
  if (a->given.is_wrong) return 2;
  if (!empty && !image_name) return wrong_usage(a->given.command, "IMAGE is missing");
  if (empty) {
    /* Without an image there is OUT alone. */
    if (out == NULL) { out = image_name; image_name = NULL; }
    if (is_kept) return wrong_usage(a->given.command, "--cached is for disks of images, and not for an empty one");
    if (option_text(&a->given, "--size")) return wrong_usage(a->given.command, "--empty says the size");
  }
  if (is_kept && out) return wrong_usage(a->given.command, "--cached is for the store, and takes no OUT");
  if (!is_kept && !out) return wrong_usage(a->given.command, "OUT is missing");
  if (out && !strcmp(out, "-")) return wrong_usage(a->given.command, "OUT is -, and a disk is not for a pipe");
  if (image_name && bl_image_open(a->storage, image_name, &image, &err)) return failed(a, err);
  if (empty) status = bl_format_disk(a->storage, image, out, &making, &disk, &err);
  else if (is_kept) status = bl_keep_disk(a->storage, image, &making, &disk, &lease, &err);
  else status = bl_create_disk(a->storage, image, out, &making, &disk, &err);
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
  {"--verity", NULL, "hashes of all blocks behind the file system, for dm-verity"},
  {"--inject", "SRC:DST[:MODE[:UID:GID]]", "a file on top of the image; again for more"},
  {"--top", "TAR", "an archive on top of the image, as a layer would be"},
  {"--empty", "SIZE", "no content, for a guest that writes; with IMAGE the writable layer over its disk"},
  {"--label", "LABEL", "of the file system, at most 16 bytes in ext4 and 15 in EROFS"},
  {"--uuid", "UUID", "of the file system; made of the layers and the options by default"},
  {"--mtime-max", "SECONDS", "since 1970: what was modified later has this time"},
  {"--cached", NULL, "no OUT: keep it in the store, where it is found again"},
  {"--direct", NULL, "leave no disks of layers in the store that are not there yet"},
  {"--replace", NULL, "take the place of what is there"},
  {NULL, NULL, NULL},
};
const command disk_command = {"disk", "[IMAGE] [OUT]", "make a disk of an image that a guest mounts", disk_options, run_disk};
