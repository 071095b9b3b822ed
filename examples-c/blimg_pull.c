/* blimg pull: an image from a registry, with a bar for each layer on a terminal, and with --json an event a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
  fprintf(stderr, "\033[K%.19s [%.*s%*s] %6.1f of %.1f MB%s\n", layer->digest, filled,
          "==============================", BAR - filled, "", (double)layer->bytes_stored / 1e6,
          (double)layer->bytes / 1e6, layer->is_done ? ", done" : "");
}

static void json_layer(const bl_layer_progress *layer)
{
  printf("{\"event\":\"layer\",\"digest\":\"%s\",\"bytes\":%llu,\"bytes_stored\":%llu,\"bytes_unpacked\":%llu,"
         "\"done\":%s}\n",
         layer->digest, (unsigned long long)layer->bytes, (unsigned long long)layer->bytes_stored,
         (unsigned long long)layer->bytes_unpacked, layer->is_done ? "true" : "false");
}

static void json_progress(const bl_pull_progress *p)
{
  static const char *const phases[] = {"resolving", "fetching", "done"};
  printf("{\"event\":\"progress\",\"phase\":\"%s\",\"layers\":%llu,\"layers_done\":%llu,\"bytes_to_fetch\":%llu,"
         "\"bytes_fetched\":%llu,\"bytes_present\":%llu,\"bytes_unpacked\":%llu,\"entries_unpacked\":%llu}\n",
         p->phase <= BL_PULL_PHASE_DONE ? phases[p->phase] : "", (unsigned long long)p->layers,
         (unsigned long long)p->layers_done, (unsigned long long)p->bytes_to_fetch,
         (unsigned long long)p->bytes_fetched, (unsigned long long)p->bytes_present,
         (unsigned long long)p->bytes_unpacked, (unsigned long long)p->entries_unpacked);
}

static int on_progress(const bl_pull_progress *p, void *user_data)
{
  display *d = user_data;
  size_t i;
  if (d->a->quiet) return 0;
  if (d->a->json) json_progress(p);
  if (is_shown(d->a)) {
    if (d->drawn) fprintf(stderr, "\033[%uA", d->drawn);
    d->drawn = (unsigned)p->layers;
  }
  for (i = 0; i < p->layers; i++) {
    bl_layer_progress layer = BL_LAYER_PROGRESS_INIT;
    if (bl_pull_layers_get(p->each_layer, i, &layer, NULL)) continue;
    if (is_shown(d->a))
      print_bar(&layer);
    else if (d->a->json && layer.is_done && i < sizeof d->told && !d->told[i]) {
      d->told[i] = 1;
      json_layer(&layer);
    }
  }
  fflush(stdout);
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

/*
 * What is behind the separator of an option's value, which now ends there; NULL after a message. The message does not have
 * the value: it may be a password.
 */
static char *split(app *a, const char *name, const char *value, char separator)
{
  char *at = strchr(value, separator);
  if (!at) {
    if (!a->given.is_wrong) wrong_usage(a->given.command, "%s: there is no '%c' in its value", name, separator);
    a->given.is_wrong = 1;
    return NULL;
  }
  *at = '\0';
  return at + 1;
}

/* What is said of a host; is_wrong where that is too much. */
static bl_registry_options *registry_of(app *a, registries *r, const char *host)
{
  bl_registry_options *known = registry(r, host);
  if (!known && !a->given.is_wrong)
    a->given.is_wrong = wrong_usage(a->given.command, "options for more than %d hosts", (int)MOST);
  return known;
}

static void add_mirror(app *a, registries *r, const char *host, const char *address)
{
  bl_registry_options *known = registry_of(a, r, host);
  const char **mirrors = known ? r->mirrors[known - r->options] : NULL;
  size_t count = 0;
  if (!known) return;
  while (mirrors[count]) count++;
  if (count < MOST)
    mirrors[count] = address;
  else if (!a->given.is_wrong)
    a->given.is_wrong = wrong_usage(a->given.command, "more than %d mirrors of %s", (int)MOST, host);
}

static void set_registries(app *a, registries *r)
{
  const char *value, *behind;
  bl_registry_options *known;
  size_t at = 0;
  while ((value = option_next(&a->given, "--plain-http", &at)))
    if ((known = registry_of(a, r, value))) known->flags |= BL_REGISTRY_PLAIN_HTTP;
  for (at = 0; (value = option_next(&a->given, "--ca", &at));)
    if ((behind = split(a, "--ca", value, '=')) && (known = registry_of(a, r, value))) known->ca_file = behind;
  for (at = 0; (value = option_next(&a->given, "--mirror", &at));)
    if ((behind = split(a, "--mirror", value, '='))) add_mirror(a, r, value, behind);
}

static void set_options(app *a, bl_pull_options *pulling)
{
  static const char *const policies[] = {"missing", "always", "newer", "never", NULL};
  options *given = &a->given;
  pulling->flags = option_flag(given, "--no-unpack", BL_PULL_NO_UNPACK) |
                   option_flag(given, "--auth-files", BL_PULL_AUTH_FILES) |
                   option_flag(given, "--mirrors-only", BL_PULL_MIRRORS_ONLY) |
                   option_flag(given, "--proxy-environment", BL_PULL_PROXY_ENVIRONMENT);
  pulling->policy = (uint32_t)option_word(given, "--policy", policies);
  pulling->parallel = (uint32_t)option_number(given, "--parallel", UINT32_MAX);
  pulling->platform = option_text(given, "--platform");
  pulling->hosts_dir = option_text(given, "--hosts-dir");
  pulling->auth_file = option_text(given, "--authfile");
  pulling->proxy = option_text(given, "--proxy");
  if ((pulling->user = option_text(given, "--creds"))) pulling->password = split(a, "--creds", pulling->user, ':');
}

static int run_pull(app *a)
{
  registries r;
  display d = {a, 0, {0}};
  bl_pull_options pulling = BL_PULL_OPTIONS_INIT;
  bl_image *image = NULL;
  bl_error *err = NULL;
  bl_tree_options tree = given_tree(a);
  memset(&r, 0, sizeof r);
  set_options(a, &pulling);
  set_registries(a, &r);
  if (a->given.is_wrong) return 2;
  pulling.tree = &tree;
  pulling.registries = r.list;
  pulling.cancel = on_interrupt;
  pulling.progress = on_progress;
  pulling.progress_data = &d;
  if (bl_pull(a->storage, a->given.args[0], &pulling, &image, &err)) return failed(a, err);
  if (a->json) {
    printf("{\"event\":\"image\",");
    json_text("name", bl_image_text(image, BL_IMAGE_NAME, 0));
    putchar(',');
    json_text("familiar_name", bl_image_text(image, BL_IMAGE_FAMILIAR_NAME, 0));
    putchar(',');
    json_text("manifest", bl_image_text(image, BL_IMAGE_MANIFEST_DIGEST, 0));
    puts("}");
  } else if (prints(a)) {
    print_image(a, image);
  }
  bl_image_free(image);
  return 0;
}

static const option pull_options[] = {
  {"--platform", "PLATFORM", "os/architecture[/variant]; this machine's by default"},
  {"--policy", "WHEN", "ask the registry: missing (the default), always, newer, never"},
  {"--no-unpack", NULL, "store the layers, and extract them later"},
  {"--form", "FORM", "of the extracted layers: " FORMS},
  {"--parallel", "N", "layers at a time"},
  {"--creds", "USER:PASSWORD", "for the registry"},
  {"--authfile", "FILE", "a config.json or auth.json with credentials"},
  {"--auth-files", NULL, "look for credentials where podman and Docker keep them"},
  {"--plain-http", "HOST", "HOST speaks HTTP without TLS"},
  {"--ca", "HOST=FILE", "certificates that HOST's may be signed by"},
  {"--mirror", "HOST=URL", "is asked before HOST; several in turn"},
  {"--hosts-dir", "DIR", "containerd's hosts.toml files"},
  {"--mirrors-only", NULL, "never ask the registry itself"},
  {"--proxy", "URL", "for every registry"},
  {"--proxy-environment", NULL, "the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name"},
  {NULL, NULL, NULL},
};
const command pull_command = {"pull", "REF", "get an image from its registry", pull_options, run_pull};
