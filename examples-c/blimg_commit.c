/* blimg commit, squash, edit: what was changed as an image, layers as one, another config. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blimg.h"

/* Values of an option that may be given again, ending with NULL. */
enum { MOST_VALUES = 256 };
typedef const char *values[MOST_VALUES + 1];

typedef struct {
  bl_config_changes changes;
  values env, unset_env, labels, unset_labels, ports, volumes, annotations;
  /* A list in JSON, taken apart in place. */
  values entrypoint, cmd;
} config_of;

static int32_t show(const bl_progress *progress, void *user_data)
{
  (void)user_data;
  fprintf(stderr, "\r%llu entries, %llu bytes", (unsigned long long)progress->entries, (unsigned long long)progress->bytes_out);
  fflush(stderr);
  return 0;
}

static void wrong(app *a, const char *name, const char *why)
{
  if (!a->given.is_wrong) a->given.is_wrong = wrong_usage(a->given.command, "%s: %s", name, why);
}

static const char *const *all_of(app *a, const char *name, values to)
{
  size_t at = 0, count = 0;
  const char *value;
  while ((value = option_next(&a->given, name, &at))) {
    if (count == MOST_VALUES) {
      wrong(a, name, "given too often");
      break;
    }
    to[count++] = value;
  }
  to[count] = NULL;
  return count ? to : NULL;
}

static int put_utf8(char *to, unsigned long code)
{
  if (code < 0x80) return to[0] = (char)code, 1;
  if (code < 0x800) return to[0] = (char)(0xc0 | code >> 6), to[1] = (char)(0x80 | (code & 0x3f)), 2;
  to[0] = (char)(0xe0 | code >> 12);
  to[1] = (char)(0x80 | (code >> 6 & 0x3f));
  to[2] = (char)(0x80 | (code & 0x3f));
  return 3;
}

static char *after_space(char *at)
{
  return at + strspn(at, " \t\r\n");
}

/* A string behind its first quote, in place; what follows it, or NULL. Code points beyond 16 bits come as they are, not as \u. */
static char *take_string(char *at, const char **string)
{
  static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
  char *to = at;
  *string = to;
  for (; *at && *at != '"'; at++) {
    const char *found;
    if (*at != '\\') {
      if ((unsigned char)*at < 0x20) return NULL;
      *to++ = *at;
    } else if (*++at == 'u') {
      char digits[5] = {0}, *end;
      unsigned long code;
      memcpy(digits, at + 1, strnlen(at + 1, 4));
      code = strtoul(digits, &end, 16);
      if (end != digits + 4 || !code || (code >= 0xd800 && code < 0xe000)) return NULL;
      to += put_utf8(to, code);
      at += 4;
    } else if (*at && (found = strchr(escapes, *at))) {
      *to++ = meant[found - escapes];
    } else {
      return NULL;
    }
  }
  if (!*at) return NULL;
  *to = '\0';
  return at + 1;
}

/* A list of strings in JSON, in place: a program may write to its own arguments. */
static const char *const *words_of(app *a, const char *name, values to)
{
  const char *given = option_text(&a->given, name);
  char *at;
  size_t count = 0;
  if (!given) return NULL;
  at = after_space((char *)(uintptr_t)given);
  if (*at++ != '[') return wrong(a, name, "not a list in JSON, such as [\"sh\",\"-c\"]"), NULL;
  at = after_space(at);
  while (*at == '"' && count < MOST_VALUES) {
    at = take_string(at + 1, &to[count]);
    if (!at) return wrong(a, name, "not a list of strings in JSON"), NULL;
    count++;
    at = after_space(at);
    if (*at != ',') break;
    at = after_space(at + 1);
    if (*at != '"') return wrong(a, name, "not a list of strings in JSON"), NULL;
  }
  if (*at != ']' || *after_space(at + 1)) return wrong(a, name, "not a list of strings in JSON"), NULL;
  to[count] = NULL;
  return to;
}

static void config_options(app *a, config_of *config, bl_commit_options *making)
{
  bl_config_changes *changes = &config->changes;
  *changes = bl_config_changes_init();
  changes->entrypoint = words_of(a, "--entrypoint", config->entrypoint);
  changes->cmd = words_of(a, "--cmd", config->cmd);
  changes->env = all_of(a, "--env", config->env);
  changes->unset_env = all_of(a, "--unset-env", config->unset_env);
  changes->working_dir = option_text(&a->given, "--workdir");
  changes->user = option_text(&a->given, "--user");
  changes->labels = all_of(a, "--label", config->labels);
  changes->unset_labels = all_of(a, "--unset-label", config->unset_labels);
  changes->exposed_ports = all_of(a, "--expose", config->ports);
  changes->volumes = all_of(a, "--volume", config->volumes);
  changes->stop_signal = option_text(&a->given, "--stop-signal");
  making->changes = changes;
  if (option_text(&a->given, "--epoch")) {
    making->flags |= BL_COMMIT_FLAG_EPOCH;
    making->epoch_seconds = (int64_t)option_number(&a->given, "--epoch", INT64_MAX);
  }
  making->author = option_text(&a->given, "--author");
  making->message = option_text(&a->given, "--message");
  making->created_by = "blimg";
  making->cancel = on_interrupt;
  if (is_shown(a)) making->progress = show;
}

static void layer_options(app *a, bl_commit_options *making)
{
  static const char *const compressions[] = {"default", "zstd", "gzip", "none", NULL};
  making->compression = (uint32_t)option_word(&a->given, "--compression", compressions);
  making->level = (int32_t)option_number(&a->given, "--level", 22);
}

static void print_named(const app *a, const bl_image *image)
{
  const char *digest = bl_image_text(image, BL_IMAGE_MANIFEST_DIGEST, 0);
  if (!a->json) {
    printf("%s %s\n", bl_image_text(image, BL_IMAGE_FAMILIAR_NAME, 0), digest);
    return;
  }
  putchar('{');
  json_text("name", bl_image_text(image, BL_IMAGE_NAME, 0));
  putchar(',');
  json_text("manifest", digest);
  puts("}");
}

static int end(app *a, bl_status status, bl_image *image, bl_error *err)
{
  end_progress(a);
  if (status) return failed(a, err);
  if (prints(a)) print_named(a, image);
  bl_image_free(image);
  return 0;
}

static int run_commit(app *a)
{
  static const char *const sources[] = {"--upper", "--tree", "--tar"};
  const char *base_name = a->given.args[0];
  bl_commit_options making = BL_COMMIT_OPTIONS_INIT;
  bl_commit_source source = BL_COMMIT_SOURCE_INIT;
  bl_image *base = NULL, *image = NULL;
  bl_error *err = NULL;
  config_of config;
  bl_status status;
  uint32_t kind;
  making.name = a->given.args[1];
  config_options(a, &config, &making);
  layer_options(a, &making);
  making.flags |= option_flag(&a->given, "--compare-content", BL_COMMIT_FLAG_COMPARE_CONTENT);
  making.flags |= option_flag(&a->given, "--user-xattr", BL_COMMIT_FLAG_USERXATTR);
  for (kind = BL_COMMIT_UPPER; kind <= BL_COMMIT_ARCHIVE; kind++) {
    const char *given = option_text(&a->given, sources[kind]);
    if (given && source.path) wrong(a, sources[kind], "there is another source");
    if (given) source.kind = kind, source.path = given;
  }
  if (a->given.is_wrong) return 2;
  if (!making.name) return wrong_usage(a->given.command, "IMAGE and NAME are missing");
  if (!source.path) return wrong_usage(a->given.command, "one of --upper, --tree and --tar says what was changed");
  if (source.kind == BL_COMMIT_ARCHIVE && !strcmp(source.path, "-")) source.path = "/dev/stdin";
  if (strcmp(base_name, "scratch") && bl_image_open(a->storage, base_name, &base, &err)) return failed(a, err);
  status = bl_commit_image(a->storage, base, &source, &making, &image, &err);
  bl_image_free(base);
  return end(a, status, image, err);
}

static int run_squash(app *a)
{
  bl_commit_options making = BL_COMMIT_OPTIONS_INIT;
  bl_image *of = NULL, *image = NULL;
  bl_error *err = NULL;
  config_of config;
  bl_status status;
  size_t from = (size_t)option_number(&a->given, "--from", 1 << 16);
  making.name = a->given.args[1];
  config_options(a, &config, &making);
  layer_options(a, &making);
  if (a->given.is_wrong) return 2;
  if (!making.name) return wrong_usage(a->given.command, "IMAGE and NAME are missing");
  if (bl_image_open(a->storage, a->given.args[0], &of, &err)) return failed(a, err);
  status = bl_squash_image(a->storage, of, from, &making, &image, &err);
  bl_image_free(of);
  return end(a, status, image, err);
}

static int run_edit(app *a)
{
  bl_commit_options making = BL_COMMIT_OPTIONS_INIT;
  bl_image *of = NULL, *image = NULL;
  bl_error *err = NULL;
  config_of config;
  bl_status status;
  making.name = a->given.args[1];
  config_options(a, &config, &making);
  making.annotations = all_of(a, "--annotation", config.annotations);
  if (a->given.is_wrong) return 2;
  if (!making.name) return wrong_usage(a->given.command, "IMAGE and NAME are missing");
  if (bl_image_open(a->storage, a->given.args[0], &of, &err)) return failed(a, err);
  status = bl_edit_image(a->storage, of, &making, &image, &err);
  bl_image_free(of);
  return end(a, status, image, err);
}

#define CONFIG_OPTIONS \
  {"--entrypoint", "JSON", "the command's first words, as [\"sh\",\"-c\"]"}, \
  {"--cmd", "JSON", "the arguments, as a list"}, \
  {"--env", "K=V", "a variable; again for more"}, \
  {"--unset-env", "K", "a variable that goes; again for more"}, \
  {"--workdir", "DIR", "the directory to start in"}, \
  {"--user", "USER", "user, uid, user:group or uid:gid"}, \
  {"--label", "K=V", "a label; again for more"}, \
  {"--unset-label", "K", "a label that goes; again for more"}, \
  {"--expose", "PORT", "a port, as 80/tcp; again for more"}, \
  {"--volume", "DIR", "a directory with data of its own; again for more"}, \
  {"--stop-signal", "SIGNAL", "what asks it to stop"}, \
  {"--epoch", "SECONDS", "since 1970: when it was made, and the latest time of any file"}, \
  {"--author", "AUTHOR", "who made it"}, \
  {"--message", "TEXT", "what was done"}

#define LAYER_OPTIONS \
  {"--compression", "WORD", "zstd, gzip, none; by default zstd, and gzip on an image of Docker's"}, \
  {"--level", "N", "how hard it tries"}

static const option commit_options[] = {
  {"--upper", "DIR", "the upper directory of an overlay"},
  {"--user-xattr", NULL, "the overlay was mounted with userxattr"},
  {"--tree", "DIR", "a directory with all of the image, which is compared with IMAGE"},
  {"--tar", "FILE", "the archive of a layer; - is standard input"},
  {"--compare-content", NULL, "read the files of a tree that look as they were, too"},
  LAYER_OPTIONS, CONFIG_OPTIONS, {NULL, NULL, NULL},
};
static const option squash_options[] = {
  {"--from", "N", "the lowest layer that becomes a part of it, from 0 on; 0 by default"},
  LAYER_OPTIONS, CONFIG_OPTIONS, {NULL, NULL, NULL},
};
static const option edit_options[] = {
  {"--annotation", "K=V", "of the manifest; again for more"},
  CONFIG_OPTIONS, {NULL, NULL, NULL},
};
const command commit_command = {"commit", "IMAGE NAME", "make an image of what was changed; IMAGE \"scratch\" is no base", commit_options, run_commit};
const command squash_command = {"squash", "IMAGE NAME", "make one layer of several", squash_options, run_squash};
const command edit_command = {"edit", "IMAGE NAME", "make an image with the same layers and another config", edit_options, run_edit};
