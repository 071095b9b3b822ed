/* Forms of trees, limits, progress, and the list of what a layer holds. */
#include <stddef.h>
#include <sys/stat.h>

#include "check.h"

/* A ustar header with a checksum; size and device are octal. */
static char *add(char *at, char type, const char *name, unsigned mode, unsigned major, unsigned minor)
{
  unsigned sum = 0;
  memset(at, 0, 512);
  strcpy(at, name);
  snprintf(at + 100, 8, "%07o", mode);
  snprintf(at + 108, 8, "%07o", 1000);
  snprintf(at + 116, 8, "%07o", 1001);
  snprintf(at + 124, 12, "%011o", 0);
  snprintf(at + 136, 12, "%011o", 86400);
  memset(at + 148, ' ', 8);
  at[156] = type;
  memcpy(at + 257, "ustar\00000", 8);
  snprintf(at + 329, 8, "%07o", major);
  snprintf(at + 337, 8, "%07o", minor);
  for (int i = 0; i < 512; i++)
    sum += (unsigned char)at[i];
  snprintf(at + 148, 8, "%06o", sum);
  return at + 512;
}

static int calls;

static int32_t on_progress(const bl_progress *progress, void *user_data)
{
  CHECK(progress->struct_size >= sizeof(size_t) && progress->bytes_out <= 3584);
  calls++;
  return *(int *)user_data;
}

int main(int argc, char **argv)
{
  static char layer[3584];
  bl_storage *storage = open_store(argc, argv);
  bl_extract_options options = BL_EXTRACT_OPTIONS_INIT;
  bl_extract_result result = BL_EXTRACT_RESULT_INIT;
  bl_layer_limits limits = BL_LAYER_LIMITS_INIT;
  bl_tree_options tree = BL_TREE_OPTIONS_INIT;
  bl_layer_entry entry = BL_LAYER_ENTRY_INIT;
  bl_layer_entries *entries = NULL;
  bl_bytes *plain = NULL, *other = NULL;
  bl_error *err = NULL;
  char path[4096], digest[160];
  struct stat st;
  int answer = 0, n = 0;
  char *end = layer;
  end = add(end, '5', "d/", 0755, 0, 0);
  end = add(end, '0', "d/.wh.gone", 0644, 0, 0);
  end = add(end, '0', "d/.wh..wh..opq", 0644, 0, 0);
  end = add(end, '3', "null", 0666, 1, 3);
  end = add(end, '0', "implied/file", 04755, 0, 0);
  CHECK(end == layer + 5 * 512);
  snprintf(path, sizeof(path), "%s.layer", argv[1]);
  FILE *file = fopen(path, "wb");
  CHECK(file && fwrite(layer, 1, sizeof(layer), file) == sizeof(layer) && !fclose(file));
  options.tarball_path = path;
  /* The library is asked what the digest is. */
  CHECK(bl_extract_layer(storage, ABC, &options, &result, &err) == BL_E_DIGEST_MISMATCH);
  snprintf(digest, sizeof(digest), "%s", bl_error_actual_digest(err));
  bl_error_free(err);
  err = NULL;

  /* Before it is extracted there is nothing to list. */
  CHECK_FAILS(err, BL_E_NOT_FOUND, bl_layer_entries_open(storage, digest, NULL, &entries, &err));
  CHECK(entries == NULL);
  limits.entries = 4;
  options.tree = &tree;
  tree.limits = &limits;
  CHECK(bl_extract_layer(storage, digest, &options, &result, &err) == BL_E_LIMIT);
  CHECK(strstr(bl_error_message(err), "entries limit is 4, found 5") != NULL);
  bl_error_free(err);
  err = NULL;
  limits.entries = 5;
  limits.struct_size = 1;
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_extract_layer(storage, digest, &options, &result, &err));
  limits.struct_size = sizeof(limits);
  options.progress = on_progress;
  options.progress_data = &answer;
  answer = 1;
  CHECK_FAILS(err, BL_E_CALLBACK, bl_extract_layer(storage, digest, &options, &result, &err));
  answer = 0;
  calls = 0;
  CHECK_OK(err, bl_extract_layer(storage, digest, &options, &result, &err));
  CHECK(calls > 0 && result.entries == 5 && !result.cached);
  CHECK(result.anomalies == BL_ANOMALY_DEVICE_PLACEHOLDER);

  CHECK_OK(err, bl_layer_entries_open(storage, digest, NULL, &entries, &err));
  static const struct {
    uint32_t kind, flags;
    const char *path;
  } expected[] = {
    { BL_ENTRY_DIRECTORY, 0, "d" },       { BL_ENTRY_WHITEOUT, 0, "d/gone" },
    { BL_ENTRY_OPAQUE, 0, "d" },          { BL_ENTRY_CHAR_DEVICE, 0, "null" },
    { BL_ENTRY_DIRECTORY, BL_ENTRY_FLAG_IMPLIED, "implied" }, { BL_ENTRY_FILE, 0, "implied/file" },
  };
  for (;;) {
    CHECK_OK(err, bl_layer_entries_next(entries, &entry, &err));
    if (entry.kind == BL_ENTRY_END) break;
    CHECK(n < 6 && entry.kind == expected[n].kind && entry.flags == expected[n].flags);
    CHECK(!strcmp(entry.path, expected[n].path) && !entry.link[0] && entry.xattr_count == 0);
    if (n == 3) CHECK(entry.device_major == 1 && entry.device_minor == 3 && entry.mode == 0666);
    if (n == 5) CHECK(entry.mode == 04755 && entry.uid == 1000 && entry.gid == 1001 && entry.mtime_seconds == 86400);
    n++;
  }
  CHECK(n == 6 && entry.path == NULL);
  CHECK_OK(err, bl_layer_entries_next(entries, &entry, &err));
  CHECK(entry.kind == BL_ENTRY_END);
  bl_layer_entries_free(entries);
  bl_layer_entries_free(NULL);

  /* Another form is another tree. */
  CHECK_OK(err, bl_extracted_path(storage, digest, &tree, &plain, &err));
  tree.flags = BL_TREE_OVERRIDE_STAT;
  CHECK_OK(err, bl_extracted_path(storage, digest, &tree, &other, &err));
  CHECK(strcmp(bl_bytes_str(plain), bl_bytes_str(other)));
  CHECK(!stat(bl_bytes_str(plain), &st) && stat(bl_bytes_str(other), &st));
  bl_bytes_free(plain);
  bl_bytes_free(other);
  tree.whiteouts = 3;
  CHECK_FAILS(err, BL_E_UNSUPPORTED, bl_extract_layer(storage, digest, &options, &result, &err));
  tree.whiteouts = 0;
  tree.form = 9;
  CHECK_FAILS(err, BL_E_UNSUPPORTED, bl_extract_layer(storage, digest, &options, &result, &err));
  bl_storage_close(storage);
  return 0;
}
