/* blimg put, has, verify, extract, entries, cat, path, load-layout: single objects of the store. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blimg.h"
#include "layout.h"

enum { LAYER, CONFIG, MANIFEST, EXTRACTED };
static const char *const kinds[] = {"layer", "config", "manifest", "extracted", NULL};

/* Which kind the first argument is, of the first so many; or -1 after a message. */
static int kind_of(const app *a, int most)
{
  const char *word = a->given.args[0];
  int i;
  for (i = 0; i < most; i++)
    if (!strcmp(word, kinds[i])) return i;
  wrong_usage(a->given.command, "'%s' is not layer, config%s", word, most > 3 ? ", manifest or extracted" : " or manifest");
  return -1;
}

static void show(const app *a, const char *digest, uint64_t done, int64_t size)
{
  if (!is_shown(a)) return;
  if (size > 0)
    fprintf(stderr, "\r%.19s  %3u %%", digest, (unsigned)(done * 100 / (uint64_t)size));
  else
    fprintf(stderr, "\r%.19s  %llu MB", digest, (unsigned long long)(done >> 20));
  fflush(stderr);
}

/* As open(2) and read(2), which a signal may interrupt: blimg is told by on_interrupt. */
static int open_file(const char *path)
{
  int fd;
  do fd = open(path, O_RDONLY);
  while (fd < 0 && errno == EINTR && !bl_cancel_is_triggered(on_interrupt));
  return fd;
}

static ssize_t read_some(int fd, void *buffer, size_t size)
{
  ssize_t n;
  do n = read(fd, buffer, size);
  while (n < 0 && errno == EINTR && !bl_cancel_is_triggered(on_interrupt));
  return n;
}

/* What ended the reading of a file. */
static int reading_failed(const app *a, const char *path, int os_errno)
{
  if (bl_cancel_is_triggered(on_interrupt)) return failed_with(a, "CANCELLED", "interrupted");
  return file_failed(a, path, os_errno);
}

/* Copies a file into a staged download, and commits it. */
static int fill(const app *a, bl_staged *staged, const char *digest, const char *path, int64_t size)
{
  static char buffer[1 << 20];
  bl_error *err = NULL;
  ssize_t n = 0;
  int read_errno = 0, fd = open_file(path);
  if (fd < 0) return reading_failed(a, path, errno);
  while (!err && !bl_cancel_is_triggered(on_interrupt) && (n = read_some(fd, buffer, sizeof(buffer))) > 0) {
    bl_write(staged, buffer, (size_t)n, &err);
    show(a, digest, bl_staged_bytes_written(staged), size);
  }
  if (n < 0) read_errno = errno;
  end_progress(a);
  close(fd);
  if (!err && (n < 0 || bl_cancel_is_triggered(on_interrupt))) return reading_failed(a, path, read_errno);
  if (err || bl_commit(staged, &err)) return failed(a, err);
  return 0;
}

static int put_layer(const app *a, const char *digest, const char *path, int64_t size)
{
  bl_staged *staged = NULL;
  bl_error *err = NULL;
  int result;
  if (bl_stage_layer(a->storage, digest, size, &staged, &err)) return failed(a, err);
  result = fill(a, staged, digest, path, size);
  bl_staged_free(staged);
  return result;
}

static int put_config(const app *a, const char *digest, const char *path)
{
  bl_staged *staged = NULL;
  bl_error *err = NULL;
  int result;
  if (bl_stage_config(a->storage, digest, &staged, &err)) return failed(a, err);
  result = fill(a, staged, digest, path, 0);
  bl_staged_free(staged);
  return result;
}

/* The library says what it thinks of one that is too large: a byte more than it takes is read. */
static int put_manifest(const app *a, const char *digest, const char *path)
{
  size_t most = ((size_t)8 << 20) + 1, size = 0;
  char *data = malloc(most);
  bl_error *err = NULL;
  ssize_t n = 0;
  int read_errno = 0, fd;
  if (!data) return failed_with(a, "INTERNAL", "out of memory");
  if ((fd = open_file(path)) < 0) {
    read_errno = errno;
    free(data);
    return reading_failed(a, path, read_errno);
  }
  while (size < most && !bl_cancel_is_triggered(on_interrupt) && (n = read_some(fd, data + size, most - size)) > 0)
    size += (size_t)n;
  if (n < 0) read_errno = errno;
  close(fd);
  if (n >= 0 && !bl_cancel_is_triggered(on_interrupt)) bl_save_manifest(a->storage, digest, data, size, &err);
  free(data);
  if (n < 0 || bl_cancel_is_triggered(on_interrupt)) return reading_failed(a, path, read_errno);
  return err ? failed(a, err) : 0;
}

static int run_put(app *a)
{
  uint64_t size = option_size(&a->given, "--size");
  char **args = a->given.args;
  int kind = kind_of(a, 3);
  if (kind < 0 || a->given.is_wrong) return 2;
  if (kind == LAYER) return put_layer(a, args[1], args[2], size > INT64_MAX ? INT64_MAX : (int64_t)size);
  if (option_text(&a->given, "--size")) return wrong_usage("put", "--size is of a layer");
  return kind == CONFIG ? put_config(a, args[1], args[2]) : put_manifest(a, args[1], args[2]);
}

static const option put_options[] = {
  {"--size", "SIZE", "what the layer's size must be"},
  {NULL, NULL, NULL},
};
const command put_command = {"put", "KIND DIGEST FILE", "store a layer, config or manifest", put_options, run_put};

static void print_extraction(const app *a, const char *digest, const char *path, const bl_extract_result *r)
{
  if (a->json) {
    putchar('{');
    json_text("digest", digest);
    putchar(',');
    json_text("path", path);
    printf(",\"cached\":%s,\"entries\":%llu,\"bytes_in\":%llu,\"bytes_out\":%llu,\"anomalies\":%llu,",
           r->cached ? "true" : "false", (unsigned long long)r->entries, (unsigned long long)r->bytes_in,
           (unsigned long long)r->bytes_out, (unsigned long long)r->anomalies);
    json_text("diff_id", r->diff_id);
    printf("}\n");
  } else if (prints(a)) {
    printf("%s\n", path);
  }
  fflush(stdout);
}

bl_tree_options given_tree(app *a)
{
  static const char *const forms[] = {"markers", "overlay", "user-overlay", "override-stat", "erofs", NULL};
  bl_tree_options tree = BL_TREE_OPTIONS_INIT;
  switch (option_word(&a->given, "--form", forms)) {
  case 1: tree.whiteouts = BL_WHITEOUTS_OVERLAY; break;
  case 2: tree.whiteouts = BL_WHITEOUTS_USER_OVERLAY; break;
  case 3: tree.flags = BL_TREE_OVERRIDE_STAT; break;
  case 4: tree.form = BL_LAYER_EROFS; break;
  }
  return tree;
}

static int extract(const app *a, const char *digest, bl_extract_options *extracting)
{
  bl_extract_result result = BL_EXTRACT_RESULT_INIT;
  bl_bytes *path = NULL;
  bl_error *err = NULL;
  extracting->cancel = on_interrupt;
  if (bl_extract_layer(a->storage, digest, extracting, &result, &err)) return failed(a, err);
  if (bl_extracted_path(a->storage, digest, extracting->tree, &path, &err)) return failed(a, err);
  print_extraction(a, digest, bl_bytes_str(path), &result);
  bl_bytes_free(path);
  return 0;
}

static int run_extract(app *a)
{
  bl_extract_options extracting = BL_EXTRACT_OPTIONS_INIT;
  bl_tree_options tree = given_tree(a);
  extracting.tree = &tree;
  extracting.tarball_path = option_text(&a->given, "--tarball");
  extracting.diff_id = option_text(&a->given, "--diff-id");
  return a->given.is_wrong ? 2 : extract(a, a->given.args[0], &extracting);
}

static const option extract_options[] = {
  {"--tarball", "FILE", "the layer's blob, where the store does not have it"},
  {"--diff-id", "DIGEST", "what the uncompressed layer's digest must be"},
  {"--form", "FORM", FORMS},
  {NULL, NULL, NULL},
};
const command extract_command = {"extract", "DIGEST", "unpack a layer into the store; prints where", extract_options,
                                 run_extract};

/* One line an entry: kind, mode, owner, size, path, and where a link leads. */
static int run_entries(app *a)
{
  static const char *const names[] = {"end",  "file", "dir",  "symlink",  "hardlink", "lowerlink",
                                      "fifo", "char", "block", "whiteout", "opaque"};
  bl_tree_options tree = given_tree(a);
  bl_layer_entry entry = BL_LAYER_ENTRY_INIT;
  bl_layer_entries *entries = NULL;
  bl_error *err = NULL;
  if (a->given.is_wrong) return 2;
  if (bl_layer_entries_open(a->storage, a->given.args[0], &tree, &entries, &err)) return failed(a, err);
  while (!bl_layer_entries_next(entries, &entry, &err) && entry.kind != BL_ENTRY_END) {
    const char *kind = entry.kind < sizeof(names) / sizeof(*names) ? names[entry.kind] : "unknown";
    if (a->json) {
      printf("{\"kind\":\"%s\",", kind);
      json_text("path", entry.path);
      putchar(',');
      json_text("link", entry.link);
      printf(",\"mode\":%lu,\"uid\":%lu,\"gid\":%lu,\"mtime\":%lld,\"size\":%llu}\n", (unsigned long)entry.mode,
             (unsigned long)entry.uid, (unsigned long)entry.gid, (long long)entry.mtime_seconds,
             (unsigned long long)entry.size_bytes);
    } else if (prints(a)) {
      /* Names are the layer's: they are not for a terminal as they are. */
      printf("%-9s %04lo %lu:%lu %llu ", kind, (unsigned long)entry.mode, (unsigned long)entry.uid,
             (unsigned long)entry.gid, (unsigned long long)entry.size_bytes);
      json_string(entry.path);
      if (entry.link[0]) {
        printf(" -> ");
        json_string(entry.link);
      }
      putchar('\n');
    }
  }
  bl_layer_entries_free(entries);
  return err ? failed(a, err) : 0;
}

static const option entries_options[] = {
  {"--form", "FORM", "of the extracted layer: " FORMS},
  {NULL, NULL, NULL},
};
const command entries_command = {"entries", "DIGEST", "list what an extracted layer has", entries_options, run_entries};

static int run_has(app *a)
{
  const char *digest = a->given.args[1];
  bool has = false;
  bl_error *err = NULL;
  int kind = kind_of(a, 3);
  if (kind < 0) return 2;
  if (kind == LAYER)
    bl_has_layer(a->storage, digest, &has, &err);
  else if (kind == CONFIG)
    bl_has_config(a->storage, digest, &has, &err);
  else
    bl_has_manifest(a->storage, digest, &has, &err);
  if (err) return failed(a, err);
  if (a->json)
    printf("{\"has\":%s}\n", has ? "true" : "false");
  else if (prints(a))
    puts(has ? "yes" : "no");
  return has ? 0 : 1;
}

const command has_command = {"has", "KIND DIGEST", "is this layer, config or manifest there? exit 1: no", NULL, run_has};

static int run_verify(app *a)
{
  bl_verify_options verifying = BL_VERIFY_OPTIONS_INIT;
  bl_error *err = NULL;
  verifying.cancel = on_interrupt;
  if (bl_verify_layer(a->storage, a->given.args[0], &verifying, &err)) return failed(a, err);
  if (a->json)
    puts("{\"verified\":true}");
  else if (prints(a))
    puts("verified");
  return 0;
}

const command verify_command = {"verify", "DIGEST", "read a layer and compare it with its digest", NULL, run_verify};

static int run_cat(app *a)
{
  const char *kind = a->given.args[0];
  bl_bytes *bytes = NULL;
  bl_error *err = NULL;
  if (!strcmp(kind, kinds[CONFIG]))
    bl_load_config(a->storage, a->given.args[1], &bytes, &err);
  else if (!strcmp(kind, kinds[MANIFEST]))
    bl_load_manifest(a->storage, a->given.args[1], &bytes, &err);
  else
    return wrong_usage("cat", "'%s' is not config or manifest", kind);
  if (err) return failed(a, err);
  fwrite(bl_bytes_data(bytes), 1, bl_bytes_len(bytes), stdout);
  bl_bytes_free(bytes);
  return 0;
}

const command cat_command = {"cat", "KIND DIGEST", "print a config or manifest, byte for byte", NULL, run_cat};

static int run_path(app *a)
{
  const char *digest = a->given.args[1];
  bl_bytes *path = NULL;
  bl_error *err = NULL;
  int kind = kind_of(a, 4);
  if (kind < 0) return 2;
  if (kind == LAYER)
    bl_layer_tarball_path(a->storage, digest, &path, &err);
  else if (kind == CONFIG)
    bl_config_path(a->storage, digest, &path, &err);
  else if (kind == MANIFEST)
    bl_manifest_path(a->storage, digest, &path, &err);
  else
    bl_layer_extracted_path(a->storage, digest, &path, &err);
  if (err) return failed(a, err);
  if (a->json) {
    putchar('{');
    json_text("path", bl_bytes_str(path));
    puts("}");
  } else {
    puts(bl_bytes_str(path));
  }
  bl_bytes_free(path);
  return 0;
}

const command path_command = {"path", "KIND DIGEST", "where a layer, config, manifest or extracted layer is, or would be",
                              NULL, run_path};

/* Skips what the store has: a layout is loaded again in no time. */
static int load_layer(const app *a, const layout *l, const layout_blob *layer)
{
  char path[8192];
  bool has = false;
  bl_extract_options extracting = BL_EXTRACT_OPTIONS_INIT;
  bl_error *err = NULL;
  if (bl_has_layer(a->storage, layer->digest, &has, &err)) return failed(a, err);
  layout_blob_path(l, layer, path, sizeof(path));
  if (!has && put_layer(a, layer->digest, path, layer->size)) return 1;
  extracting.diff_id = layer->diff_id;
  return extract(a, layer->digest, &extracting);
}

static int run_load_layout(app *a)
{
  char path[8192];
  layout l;
  size_t i;
  int result;
  if (layout_open(&l, a->given.args[0], a->given.args[1]) && bl_cancel_is_triggered(on_interrupt))
    return failed_with(a, "CANCELLED", "interrupted");
  if (l.error[0]) return failed_with(a, l.os_errno ? status_of_errno(l.os_errno) : "MALFORMED", l.error);
  layout_blob_path(&l, &l.config, path, sizeof(path));
  result = put_config(a, l.config.digest, path);
  for (i = 0; i < l.layer_count && !result; i++) result = load_layer(a, &l, &l.layers[i]);
  /* Last, so that a manifest in the store means that the rest is there. */
  layout_blob_path(&l, &l.manifest, path, sizeof(path));
  if (!result) result = put_manifest(a, l.manifest.digest, path);
  layout_close(&l);
  return result;
}

const command load_layout_command = {"load-layout", "DIR [TAG]",
                                     "store and unpack an OCI layout's image without a name; prints where", NULL,
                                     run_load_layout};
