/*
 * blimg: a small command line over the public header, to try the library with and to test it as a black box.
 * Exit status: 0 done, 1 failed (or "no", for has), 2 usage.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blimg.h"
#include "boxlite_images.h"
#include "layout.h"

static const char usage_text[] =
  "usage: blimg --store DIR [--bundle DIR] [--json] [--quiet] [--read-only] [--single-process] COMMAND\n"
  "  put layer|config|manifest DIGEST FILE [--size N]\n"
  "  extract DIGEST [--tarball FILE] [--diff-id D] [--form FORM]\n"
  "  entries DIGEST [--form FORM]\n"
  "  has layer|config|manifest DIGEST\n"
  "  verify DIGEST\n"
  "  cat config|manifest DIGEST\n"
  "  path layer|config|manifest|extracted DIGEST\n"
  "  load-layout DIR [TAG]\n"
  "  pull REF [--platform P] [--policy missing|always|newer|never] [--no-unpack] [--parallel N]\n"
  "       [--creds USER:PASS] [--authfile FILE] [--auth-files] [--plain-http HOST] [--ca HOST=FILE]\n"
  "       [--mirror HOST=URL] [--hosts-dir DIR] [--mirrors-only] [--proxy URL] [--proxy-environment]\n"
  "  import FILE|DIR|- [--select NAME] [--name NAME] [--platform P] [--no-unpack] [--devices] [--hard-link]\n"
  "  export FILE|DIR|- IMAGE... [--folder] [--replace]\n"
  "  rootfs IMAGE DIR [--mode copy|reflink|hardlink|direct] [--replace] [--into-existing] [--devices]\n"
  "         [--override-stat] [--record FILE]\n"
  "  mount-options IMAGE [--user-xattr] [--seconds N]\n"
  "  config IMAGE ROOTFS [--runtime-json]\n"
  "  tag DIGEST NAME\n"
  "  ls\n"
  "  inspect NAME|DIGEST\n"
  "  rm NAME\n"
  "  gc [--dry-run] [--any-age]\n"
  "  check [--repair] [--skip-trees] [--rate BYTES]\n"
  "  df\n"
  "  lease create SECONDS | hold ID DIGEST | extend ID SECONDS | release ID\n"
  "--bundle: the command is about an OCI layout's folder that stays where it is; its image is called \"bundle\"\n"
  "FORM: markers (the default), overlay, user-overlay, override-stat\n";

bl_cancel *on_interrupt;

static void interrupted(int signal)
{
  (void)signal;
  bl_cancel_trigger(on_interrupt);
}

int usage(void)
{
  fputs(usage_text, stderr);
  return 2;
}

/* Takes the error over. */
int failed(bl_error *err)
{
  fprintf(stderr, "blimg: %s: %s\n", bl_status_name(bl_error_status(err)), bl_error_message(err));
  bl_error_free(err);
  return 1;
}

void json_string(const char *text)
{
  putchar('"');
  for (; *text; text++) {
    if (*text == '"' || *text == '\\')
      printf("\\%c", *text);
    else if ((unsigned char)*text < 0x20)
      printf("\\u%04x", (unsigned)*text);
    else
      putchar(*text);
  }
  putchar('"');
}

/* The value of an option behind the command's own arguments, or NULL. Unknown options are for check_options(). */
static const char *option(char **args, const char *name)
{
  for (; args[0] && args[1]; args += 2)
    if (!strcmp(args[0], name)) return args[1];
  return NULL;
}

/* Whether `args` is nothing but pairs of these options, of which each ends in a space, and their values. */
static int check_options(char **args, const char *known)
{
  for (; args[0]; args += 2) {
    size_t len = strlen(args[0]);
    const char *found = strstr(known, args[0]);
    if (strncmp(args[0], "--", 2) || !found || found[len] != ' ' || !args[1]) return 0;
  }
  return 1;
}

static void progress(const app *a, const char *digest, uint64_t done, int64_t size)
{
  if (a->quiet || a->json || !isatty(2)) return;
  if (size > 0)
    fprintf(stderr, "\r%.19s  %3u %%", digest, (unsigned)(done * 100 / (uint64_t)size));
  else
    fprintf(stderr, "\r%.19s  %llu MB", digest, (unsigned long long)(done >> 20));
  fflush(stderr);
}

static void progress_end(const app *a)
{
  if (!a->quiet && !a->json && isatty(2)) fputs("\r\033[K", stderr);
}

/* Copies a file into a staged download, and commits it. */
static int fill(const app *a, bl_staged *staged, const char *digest, const char *path, int64_t size)
{
  static char buffer[1 << 20];
  bl_error *err = NULL;
  size_t n;
  int read_errno;
  FILE *f = fopen(path, "rb");
  if (!f) {
    fprintf(stderr, "blimg: %s: %s\n", path, strerror(errno));
    return 1;
  }
  setvbuf(f, NULL, _IONBF, 0);
  while (!bl_cancel_is_triggered(on_interrupt) && (n = fread(buffer, 1, sizeof(buffer), f)) > 0) {
    if (bl_write(staged, buffer, n, &err)) break;
    progress(a, digest, bl_staged_bytes_written(staged), size);
  }
  read_errno = ferror(f) ? errno : 0;
  progress_end(a);
  fclose(f);
  /* First: the signal may have ended the read with an error. */
  if (!err && bl_cancel_is_triggered(on_interrupt)) {
    fputs("blimg: CANCELLED: interrupted\n", stderr);
    return 1;
  }
  if (!err && read_errno) {
    fprintf(stderr, "blimg: %s: %s\n", path, strerror(read_errno));
    return 1;
  }
  if (err || bl_commit(staged, &err)) return failed(err);
  return 0;
}

static int put_layer(const app *a, const char *digest, const char *path, int64_t size)
{
  bl_staged *staged = NULL;
  bl_error *err = NULL;
  int result;
  if (bl_stage_layer(a->storage, digest, size, &staged, &err)) return failed(err);
  result = fill(a, staged, digest, path, size);
  bl_staged_free(staged);
  return result;
}

static int put_config(const app *a, const char *digest, const char *path)
{
  bl_staged *staged = NULL;
  bl_error *err = NULL;
  int result;
  if (bl_stage_config(a->storage, digest, &staged, &err)) return failed(err);
  result = fill(a, staged, digest, path, 0);
  bl_staged_free(staged);
  return result;
}

static int put_manifest(const app *a, const char *digest, const char *path)
{
  bl_error *err = NULL;
  size_t len;
  char *data = read_file(path, (size_t)8 << 20, &len);
  if (!data) return 1;
  bl_save_manifest(a->storage, digest, data, len, &err);
  free(data);
  return err ? failed(err) : 0;
}

static int cmd_put(const app *a, char **args)
{
  const char *size;
  if (!args[0] || !args[1] || !args[2] || !check_options(args + 3, "--size ")) return usage();
  size = option(args + 3, "--size");
  if (!strcmp(args[0], "layer")) return put_layer(a, args[1], args[2], size ? strtoll(size, NULL, 10) : 0);
  if (size) return usage();
  if (!strcmp(args[0], "config")) return put_config(a, args[1], args[2]);
  if (!strcmp(args[0], "manifest")) return put_manifest(a, args[1], args[2]);
  return usage();
}

static void print_extraction(const app *a, const char *digest, const char *path, const bl_extract_result *r)
{
  if (a->json) {
    printf("{\"digest\":");
    json_string(digest);
    printf(",\"path\":");
    json_string(path);
    printf(",\"cached\":%s,\"entries\":%llu,\"bytes_in\":%llu,\"bytes_out\":%llu,\"anomalies\":%llu,\"diff_id\":",
           r->cached ? "true" : "false", (unsigned long long)r->entries, (unsigned long long)r->bytes_in,
           (unsigned long long)r->bytes_out, (unsigned long long)r->anomalies);
    json_string(r->diff_id);
    printf("}\n");
  } else if (!a->quiet) {
    printf("%s\n", path);
  }
  fflush(stdout);
}

/* What the tree is to look like; 0 for an unknown word. */
static int set_form(bl_extract_options *options, const char *form)
{
  if (!form || !strcmp(form, "markers"))
    options->whiteouts = BL_WHITEOUTS_MARKERS;
  else if (!strcmp(form, "overlay"))
    options->whiteouts = BL_WHITEOUTS_OVERLAY;
  else if (!strcmp(form, "user-overlay"))
    options->whiteouts = BL_WHITEOUTS_USER_OVERLAY;
  else if (!strcmp(form, "override-stat"))
    options->flags |= BL_EXTRACT_OVERRIDE_STAT;
  else
    return 0;
  return 1;
}

static int extract(const app *a, const char *digest, bl_extract_options *options)
{
  bl_extract_result result = BL_EXTRACT_RESULT_INIT;
  bl_bytes *path = NULL;
  bl_error *err = NULL;
  options->cancel = on_interrupt;
  if (bl_extract_layer(a->storage, digest, options, &result, &err)) return failed(err);
  if (bl_extracted_path(a->storage, digest, options, &path, &err)) return failed(err);
  print_extraction(a, digest, bl_bytes_str(path), &result);
  bl_bytes_free(path);
  return 0;
}

static int cmd_extract(const app *a, char **args)
{
  bl_extract_options options = BL_EXTRACT_OPTIONS_INIT;
  if (!args[0] || !check_options(args + 1, "--tarball --diff-id --form ")) return usage();
  options.tarball_path = option(args + 1, "--tarball");
  options.diff_id = option(args + 1, "--diff-id");
  if (!set_form(&options, option(args + 1, "--form"))) return usage();
  return extract(a, args[0], &options);
}

/* One line an entry: kind, mode, owner, size, path, and where a link leads. */
static int cmd_entries(const app *a, char **args)
{
  static const char *const kinds[] = {"end",  "file", "dir",  "symlink",  "hardlink", "lowerlink",
                                      "fifo", "char", "block", "whiteout", "opaque"};
  bl_extract_options options = BL_EXTRACT_OPTIONS_INIT;
  bl_layer_entry entry = BL_LAYER_ENTRY_INIT;
  bl_layer_entries *entries = NULL;
  bl_error *err = NULL;
  if (!args[0] || !check_options(args + 1, "--form ")) return usage();
  if (!set_form(&options, option(args + 1, "--form"))) return usage();
  if (bl_layer_entries_open(a->storage, args[0], &options, &entries, &err)) return failed(err);
  while (!bl_layer_entries_next(entries, &entry, &err) && entry.kind != BL_ENTRY_END) {
    const char *kind = entry.kind < sizeof(kinds) / sizeof(*kinds) ? kinds[entry.kind] : "unknown";
    if (a->json) {
      printf("{\"kind\":\"%s\",\"path\":", kind);
      json_string(entry.path);
      printf(",\"link\":");
      json_string(entry.link);
      printf(",\"mode\":%lu,\"uid\":%lu,\"gid\":%lu,\"mtime\":%lld,\"size\":%llu}\n", (unsigned long)entry.mode,
             (unsigned long)entry.uid, (unsigned long)entry.gid, (long long)entry.mtime,
             (unsigned long long)entry.size);
    } else if (!a->quiet) {
      /* Names are the layer's: they are not for a terminal as they are. */
      printf("%-9s %04lo %lu:%lu %llu ", kind, (unsigned long)entry.mode, (unsigned long)entry.uid,
             (unsigned long)entry.gid, (unsigned long long)entry.size);
      json_string(entry.path);
      if (entry.link[0]) {
        printf(" -> ");
        json_string(entry.link);
      }
      putchar('\n');
    }
  }
  bl_layer_entries_free(entries);
  return err ? failed(err) : 0;
}

static int cmd_has(const app *a, char **args)
{
  bool has = false;
  bl_error *err = NULL;
  if (!args[0] || !args[1] || args[2]) return usage();
  if (!strcmp(args[0], "layer"))
    bl_has_layer(a->storage, args[1], &has, &err);
  else if (!strcmp(args[0], "config"))
    bl_has_config(a->storage, args[1], &has, &err);
  else if (!strcmp(args[0], "manifest"))
    bl_has_manifest(a->storage, args[1], &has, &err);
  else
    return usage();
  if (err) return failed(err);
  if (a->json)
    printf("{\"has\":%s}\n", has ? "true" : "false");
  else if (!a->quiet)
    puts(has ? "yes" : "no");
  return has ? 0 : 1;
}

static int cmd_verify(const app *a, char **args)
{
  bl_verify_options options = BL_VERIFY_OPTIONS_INIT;
  bl_error *err = NULL;
  if (!args[0] || args[1]) return usage();
  options.cancel = on_interrupt;
  if (bl_verify_layer(a->storage, args[0], &options, &err)) return failed(err);
  if (a->json)
    puts("{\"verified\":true}");
  else if (!a->quiet)
    puts("verified");
  return 0;
}

static int cmd_cat(const app *a, char **args)
{
  bl_bytes *bytes = NULL;
  bl_error *err = NULL;
  if (!args[0] || !args[1] || args[2]) return usage();
  if (!strcmp(args[0], "config"))
    bl_load_config(a->storage, args[1], &bytes, &err);
  else if (!strcmp(args[0], "manifest"))
    bl_load_manifest(a->storage, args[1], &bytes, &err);
  else
    return usage();
  if (err) return failed(err);
  fwrite(bl_bytes_data(bytes), 1, bl_bytes_len(bytes), stdout);
  bl_bytes_free(bytes);
  return 0;
}

static int cmd_path(const app *a, char **args)
{
  bl_bytes *path = NULL;
  bl_error *err = NULL;
  if (!args[0] || !args[1] || args[2]) return usage();
  if (!strcmp(args[0], "layer"))
    bl_layer_tarball_path(a->storage, args[1], &path, &err);
  else if (!strcmp(args[0], "config"))
    bl_config_path(a->storage, args[1], &path, &err);
  else if (!strcmp(args[0], "manifest"))
    bl_manifest_path(a->storage, args[1], &path, &err);
  else if (!strcmp(args[0], "extracted"))
    bl_layer_extracted_path(a->storage, args[1], &path, &err);
  else
    return usage();
  if (err) return failed(err);
  if (a->json) {
    printf("{\"path\":");
    json_string(bl_bytes_str(path));
    puts("}");
  } else {
    puts(bl_bytes_str(path));
  }
  bl_bytes_free(path);
  return 0;
}

/* Skips what the store has: a layout is loaded again in no time. */
static int load_layer(const app *a, const layout *l, const layout_blob *layer)
{
  char path[8192];
  bool has = false;
  bl_extract_options options = BL_EXTRACT_OPTIONS_INIT;
  bl_error *err = NULL;
  if (bl_has_layer(a->storage, layer->digest, &has, &err)) return failed(err);
  layout_blob_path(l, layer, path, sizeof(path));
  if (!has && put_layer(a, layer->digest, path, layer->size)) return 1;
  options.diff_id = layer->diff_id;
  return extract(a, layer->digest, &options);
}

static int cmd_load_layout(const app *a, char **args)
{
  char path[8192];
  layout l;
  size_t i;
  int result;
  if (!args[0] || (args[1] && args[2])) return usage();
  if (layout_open(&l, args[0], args[1])) return 1;
  layout_blob_path(&l, &l.config, path, sizeof(path));
  result = put_config(a, l.config.digest, path);
  for (i = 0; i < l.layer_count && !result; i++) result = load_layer(a, &l, &l.layers[i]);
  /* Last, so that a manifest in the store means that the rest is there. */
  layout_blob_path(&l, &l.manifest, path, sizeof(path));
  if (!result) result = put_manifest(a, l.manifest.digest, path);
  layout_close(&l);
  return result;
}

static int cmd_tag(const app *a, char **args)
{
  bl_error *err = NULL;
  if (!args[0] || !args[1] || args[2]) return usage();
  return bl_tag_image(a->storage, args[1], args[0], &err) ? failed(err) : 0;
}

static int cmd_rm(const app *a, char **args)
{
  bl_error *err = NULL;
  if (!args[0] || args[1]) return usage();
  return bl_remove_image(a->storage, args[0], &err) ? failed(err) : 0;
}

/* One line an image: name, digest of the manifest, size. */
static int ls_one(const app *a, const char *name)
{
  bl_image_usage usage = BL_IMAGE_USAGE_INIT;
  bl_image *image = NULL;
  bl_error *err = NULL;
  const char *digest;
  if (bl_image_open(a->storage, name, &image, &err) || bl_image_get_usage(a->storage, image, &usage, &err)) {
    bl_image_free(image);
    return failed(err);
  }
  digest = bl_image_text(image, BL_IMAGE_MANIFEST_DIGEST, 0);
  if (a->json) {
    printf("{\"name\":");
    json_string(name);
    printf(",\"manifest\":");
    json_string(digest);
    printf(",\"compressed_size\":%llu,\"extracted_size\":%llu,\"shared_size\":%llu,\"unique_size\":%llu}\n",
           (unsigned long long)usage.compressed_size, (unsigned long long)usage.extracted_size,
           (unsigned long long)usage.shared_size, (unsigned long long)usage.unique_size);
  } else if (!a->quiet) {
    printf("%s %s %llu\n", name, digest, (unsigned long long)usage.compressed_size);
  }
  bl_image_free(image);
  return 0;
}

static int cmd_ls(const app *a, char **args)
{
  bl_names *names = NULL;
  bl_error *err = NULL;
  size_t i;
  int result = 0;
  if (args[0]) return usage();
  if (bl_image_list(a->storage, &names, &err)) return failed(err);
  for (i = 0; i < bl_names_count(names); i++) result |= ls_one(a, bl_names_get(names, i));
  bl_names_free(names);
  return result;
}

static const struct {
  const char *label;
  uint32_t field;
} image_texts[] = {
  {"name", BL_IMAGE_NAME},
  {"manifest", BL_IMAGE_MANIFEST_DIGEST},
  {"config", BL_IMAGE_CONFIG_DIGEST},
  {"created", BL_IMAGE_CREATED},
  {"architecture", BL_IMAGE_ARCHITECTURE},
  {"variant", BL_IMAGE_VARIANT},
  {"os", BL_IMAGE_OS},
  {"entrypoint", BL_IMAGE_ENTRYPOINT},
  {"cmd", BL_IMAGE_CMD},
  {"env", BL_IMAGE_ENV},
  {"working_dir", BL_IMAGE_WORKING_DIR},
  {"user", BL_IMAGE_USER},
  {"stop_signal", BL_IMAGE_STOP_SIGNAL},
  {"exposed_port", BL_IMAGE_EXPOSED_PORT},
  {"volume", BL_IMAGE_VOLUME},
  {"label", BL_IMAGE_LABEL_KEY},
  {"label_value", BL_IMAGE_LABEL_VALUE},
  {"missing", BL_IMAGE_MISSING},
  {"index", BL_IMAGE_INDEX_DIGEST},
  {"familiar_name", BL_IMAGE_FAMILIAR_NAME},
};

/* A line for each text, then one for each layer: with --json one object a line, the same way. */
void print_image(const app *a, bl_image *image)
{
  size_t i, f;
  const char *text;
  for (f = 0; f < sizeof(image_texts) / sizeof(*image_texts); f++)
    for (i = 0; (text = bl_image_text(image, image_texts[f].field, i)) != NULL; i++) {
      printf(a->json ? "{\"%s\":" : "%s: ", image_texts[f].label);
      /* The maker's words are not for a terminal as they are. */
      json_string(text);
      puts(a->json ? "}" : "");
    }
  for (i = 0; i < bl_image_layer_count(image); i++) {
    bl_image_layer_info layer = BL_IMAGE_LAYER_INFO_INIT;
    if (bl_image_layer(image, i, &layer, NULL)) continue;
    printf(a->json ? "{\"layer\":" : "layer: ");
    json_string(layer.digest);
    printf(a->json ? ",\"size\":%llu,\"diff_id\":" : " %llu ", (unsigned long long)layer.size);
    json_string(layer.diff_id ? layer.diff_id : "");
    puts(a->json ? "}" : "");
  }
}

static int cmd_inspect(const app *a, char **args)
{
  bl_image *image = NULL;
  bl_error *err = NULL;
  if (!args[0] || args[1]) return usage();
  if (bl_image_open(a->storage, args[0], &image, &err)) return failed(err);
  if (!a->quiet) print_image(a, image);
  bl_image_free(image);
  return 0;
}

static const struct {
  const char *name;
  int (*run)(const app *, char **);
} commands[] = {
  {"put", cmd_put},
  {"extract", cmd_extract},
  {"entries", cmd_entries},
  {"has", cmd_has},
  {"verify", cmd_verify},
  {"cat", cmd_cat},
  {"path", cmd_path},
  {"load-layout", cmd_load_layout},
  {"pull", cmd_pull},
  {"import", cmd_import},
  {"export", cmd_export},
  {"rootfs", cmd_rootfs},
  {"mount-options", cmd_mount_options},
  {"config", cmd_config},
  {"tag", cmd_tag},
  {"ls", cmd_ls},
  {"inspect", cmd_inspect},
  {"rm", cmd_rm},
  {"gc", cmd_gc},
  {"lease", cmd_lease},
  {"check", cmd_check},
  {"df", cmd_df},
};

/* Goes on with the bundle's own store. Its layers are read when a command needs them. */
static int open_bundle(app *a, const char *bundle)
{
  bl_import_options options = BL_IMPORT_OPTIONS_INIT;
  bl_storage *in_bundle = NULL;
  bl_error *err = NULL;
  options.flags = BL_IMPORT_NO_UNPACK;
  options.name = "bundle";
  options.cancel = on_interrupt;
  if (bl_bundle_open(a->storage, bundle, &options, &in_bundle, NULL, &err)) return failed(err);
  bl_storage_close(a->storage);
  a->storage = in_bundle;
  return 0;
}

static int run(app *a, const char *store, const char *bundle, const bl_storage_options *options, char **args)
{
  struct sigaction action;
  bl_error *err = NULL;
  size_t i;
  int result;
  for (i = 0; i < sizeof(commands) / sizeof(*commands); i++)
    if (!strcmp(args[0], commands[i].name)) break;
  if (i == sizeof(commands) / sizeof(*commands)) return usage();
  if (bl_cancel_new(&on_interrupt, &err) || bl_storage_open(store, options, &a->storage, &err)) return failed(err);
  memset(&action, 0, sizeof(action));
  action.sa_handler = interrupted;
  sigaction(SIGINT, &action, NULL);
  /* A full disk or a file size limit is to be reported, not to kill. */
  action.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &action, NULL);
  result = bundle ? open_bundle(a, bundle) : 0;
  if (!result) result = commands[i].run(a, args + 1);
  bl_storage_close(a->storage);
  signal(SIGINT, SIG_DFL);
  bl_cancel_free(on_interrupt);
  return result;
}

int main(int argc, char **argv)
{
  app a = {NULL, 0, 0};
  bl_storage_options options = BL_STORAGE_OPTIONS_INIT;
  const char *store = NULL, *bundle = NULL;
  int i;
  for (i = 1; i < argc && argv[i][0] == '-'; i++) {
    if (!strcmp(argv[i], "--store") && i + 1 < argc)
      store = argv[++i];
    else if (!strcmp(argv[i], "--bundle") && i + 1 < argc)
      bundle = argv[++i];
    else if (!strcmp(argv[i], "--json"))
      a.json = 1;
    else if (!strcmp(argv[i], "--quiet"))
      a.quiet = 1;
    else if (!strcmp(argv[i], "--read-only"))
      options.flags |= BL_STORAGE_READ_ONLY;
    else if (!strcmp(argv[i], "--single-process"))
      options.flags |= BL_STORAGE_SINGLE_PROCESS;
    else if (!strcmp(argv[i], "--version"))
      return printf("blimg %s\n", bl_version_string()), 0;
    else
      return usage();
  }
  if (!store || i == argc) return usage();
  i = run(&a, store, bundle, &options, argv + i);
  /* Output that did not arrive is a failure too. */
  if (fflush(stdout) || ferror(stdout)) return i ? i : 1;
  return i;
}
