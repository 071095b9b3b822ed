/*
 * blimg pull: an image from a registry, with a bar for each layer on a terminal, a line for each layer where there is
 * none, and with --json an event a line (docs/blimg.md).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blimg.h"

enum { MOST = 16, BAR = 30 };

typedef struct {
  const app *a;
  /* Lines of bars that are on the terminal. */
  unsigned drawn;
  /* Layers that were told of; of more than so many nothing is said. */
  unsigned char told[1024];
} display;

/* "sha256:0123456789ab" is enough to tell layers apart. */
static void print_bar(const bl_layer_progress *layer)
{
  unsigned long long total = layer->bytes ? layer->bytes : 1;
  int filled = (int)(layer->bytes_stored * BAR / total);
  fprintf(stderr, "\033[K%.19s [%.*s%*s] %6.1f of %.1f MB%s\n", (const char *)layer->digest, filled,
          "==============================", BAR - filled, "", (double)layer->bytes_stored / 1e6,
          (double)layer->bytes / 1e6, layer->is_done ? ", done" : "");
}

static void json_layer(const bl_layer_progress *layer)
{
  printf("{\"event\":\"layer\",\"digest\":\"%s\",\"bytes\":%llu,\"bytes_stored\":%llu,\"bytes_unpacked\":%llu,"
         "\"done\":%s}\n",
         (const char *)layer->digest, (unsigned long long)layer->bytes, (unsigned long long)layer->bytes_stored,
         (unsigned long long)layer->bytes_unpacked, layer->is_done ? "true" : "false");
}

static void json_progress(const bl_pull_progress *p)
{
  static const char *const phases[] = {"resolving", "fetching", "done"};
  printf("{\"event\":\"progress\",\"phase\":\"%s\",\"layers\":%llu,\"layers_done\":%llu,\"bytes_to_fetch\":%llu,"
         "\"bytes_fetched\":%llu,\"bytes_present\":%llu,\"bytes_unpacked\":%llu,\"entries_unpacked\":%llu}\n",
         p->phase <= BL_PULL_DONE ? phases[p->phase] : "", (unsigned long long)p->layers,
         (unsigned long long)p->layers_done, (unsigned long long)p->bytes_to_fetch,
         (unsigned long long)p->bytes_fetched, (unsigned long long)p->bytes_present,
         (unsigned long long)p->bytes_unpacked, (unsigned long long)p->entries_unpacked);
}

static int on_progress(const bl_pull_progress *p, void *user_data)
{
  display *d = user_data;
  int is_terminal = !d->a->json && !d->a->quiet && isatty(2);
  size_t i;
  if (d->a->quiet) return 0;
  if (d->a->json) json_progress(p);
  if (is_terminal && d->drawn) fprintf(stderr, "\033[%uA", d->drawn);
  if (is_terminal) d->drawn = (unsigned)p->layers;
  for (i = 0; i < p->layers; i++) {
    bl_layer_progress layer = BL_LAYER_PROGRESS_INIT;
    if (bl_pull_layers_get(p->each_layer, i, &layer, NULL)) continue;
    if (is_terminal)
      print_bar(&layer);
    else if (layer.is_done && i < sizeof d->told && !d->told[i]) {
      d->told[i] = 1;
      if (d->a->json)
        json_layer(&layer);
      else
        fprintf(stderr, "%s: done\n", (const char *)layer.digest);
    }
  }
  fflush(stdout);
  return 0;
}

/* USER:PASS, of which the colon becomes the end of the first. */
static int split_credentials(char *text, bl_pull_options *options)
{
  char *colon = strchr(text, ':');
  if (!colon) return 0;
  *colon = '\0';
  options->user = text;
  options->password = colon + 1;
  return 1;
}

static int policy_of(const char *name, uint32_t *policy)
{
  static const char *const names[] = {"missing", "always", "newer", "never"};
  for (*policy = BL_PULL_MISSING; *policy <= BL_PULL_NEVER; ++*policy)
    if (!strcmp(name, names[*policy])) return 1;
  return 0;
}

/* What was said of single registries. */
typedef struct {
  bl_registry_options options[MOST];
  const bl_registry_options *list[MOST + 1];
  const char *mirrors[MOST][MOST + 1];
  size_t count;
} registries;

/* Those of a host, made where there are none; NULL where there are too many. */
static bl_registry_options *registry(registries *r, const char *host)
{
  size_t i;
  for (i = 0; i < r->count; i++)
    if (!strcmp(r->options[i].host, host)) return &r->options[i];
  if (r->count == MOST) return NULL;
  r->options[i] = bl_registry_options_init();
  r->options[i].host = host;
  r->options[i].mirrors = r->mirrors[i];
  r->list[r->count++] = &r->options[i];
  return &r->options[i];
}

/* HOST=VALUE, of which the equals sign becomes the end of the first. */
static char *split_value(char *text)
{
  char *equals = strchr(text, '=');
  if (!equals) return NULL;
  *equals = '\0';
  return equals + 1;
}

static int set_plain(registries *r, const char *host)
{
  bl_registry_options *options = registry(r, host);
  if (options) options->flags |= BL_REGISTRY_PLAIN_HTTP;
  return options != NULL;
}

static int set_ca(registries *r, char *text)
{
  const char *file = split_value(text);
  bl_registry_options *options = registry(r, text);
  if (options) options->ca_file = file;
  return file && options;
}

static int add_mirror(registries *r, char *text)
{
  const char *address = split_value(text);
  bl_registry_options *options = registry(r, text);
  size_t at, i;
  if (!address || !options) return 0;
  at = (size_t)(options - r->options);
  for (i = 0; r->mirrors[at][i]; i++)
    if (i + 1 == MOST) return 0;
  r->mirrors[at][i] = address;
  return 1;
}

/* Options with a value; 0 for one that is none of them, or a value that is none. */
static int set_option(bl_pull_options *options, registries *r, const char *name, char *value)
{
  if (!strcmp(name, "--platform")) return (options->platform = value) != NULL;
  if (!strcmp(name, "--hosts-dir")) return (options->hosts_dir = value) != NULL;
  if (!strcmp(name, "--authfile")) return (options->auth_file = value) != NULL;
  if (!strcmp(name, "--proxy")) return (options->proxy = value) != NULL;
  if (!strcmp(name, "--policy")) return policy_of(value, &options->policy);
  if (!strcmp(name, "--creds")) return split_credentials(value, options);
  if (!strcmp(name, "--plain-http")) return set_plain(r, value);
  if (!strcmp(name, "--ca")) return set_ca(r, value);
  if (!strcmp(name, "--mirror")) return add_mirror(r, value);
  if (!strcmp(name, "--parallel")) return (options->parallel = (uint32_t)strtoul(value, NULL, 10)) > 0;
  return 0;
}

static uint64_t flag_of(const char *name)
{
  if (!strcmp(name, "--no-unpack")) return BL_PULL_NO_UNPACK;
  if (!strcmp(name, "--auth-files")) return BL_PULL_AUTH_FILES;
  if (!strcmp(name, "--mirrors-only")) return BL_PULL_MIRRORS_ONLY;
  if (!strcmp(name, "--proxy-environment")) return BL_PULL_PROXY_ENVIRONMENT;
  return 0;
}

static int json_failed(bl_error *err)
{
  const char *code = bl_error_registry_code(err);
  printf("{\"event\":\"error\",\"status\":\"%s\",\"http_status\":%d,\"registry_code\":",
         bl_status_name(bl_error_status(err)), (int)bl_error_http_status(err));
  json_string(code ? code : "");
  fputs(",\"message\":", stdout);
  json_string(bl_error_message(err));
  puts("}");
  fflush(stdout);
  bl_error_free(err);
  return 1;
}

int cmd_pull(const app *a, char **args)
{
  registries r;
  display d = {NULL, 0, {0}};
  bl_pull_options options = BL_PULL_OPTIONS_INIT;
  const char *reference = args[0];
  bl_image *image = NULL;
  bl_error *err = NULL;
  memset(&r, 0, sizeof r);
  if (!reference) return usage();
  for (args++; args[0]; args++) {
    uint64_t flag = flag_of(args[0]);
    options.flags |= flag;
    if (flag) continue;
    if (!args[1] || !set_option(&options, &r, args[0], args[1])) return usage();
    args++;
  }
  d.a = a;
  options.registries = r.list;
  options.cancel = on_interrupt;
  options.progress = on_progress;
  options.progress_data = &d;
  if (bl_pull(a->storage, reference, &options, &image, &err)) return a->json ? json_failed(err) : failed(err);
  if (a->json) {
    printf("{\"event\":\"image\",\"name\":");
    json_string(bl_image_text(image, BL_IMAGE_NAME, 0));
    printf(",\"manifest\":\"%s\"}\n", bl_image_text(image, BL_IMAGE_MANIFEST_DIGEST, 0));
  } else if (!a->quiet)
    print_image(a, image);
  bl_image_free(image);
  return 0;
}
