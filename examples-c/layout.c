#include "layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_DOCUMENT ((size_t)4 << 20)
#define MOST_LAYERS 1024

static int bad(layout *l, const char *path, const char *what)
{
  snprintf(l->error, sizeof(l->error), "%s: %s", path, what);
  return -1;
}

static int unreadable(layout *l, const char *path)
{
  l->os_errno = errno;
  return bad(l, path, strerror(errno));
}

/* A whole file, to be freed; NULL after an error. */
static char *read_file(layout *l, const char *path)
{
  FILE *f = fopen(path, "rb");
  char *data = NULL;
  size_t size = 0, n;
  if (!f) return unreadable(l, path), NULL;
  do {
    char *grown = realloc(data, size + 65536 + 1);
    if (!grown || size > MOST_DOCUMENT) {
      bad(l, path, "too large");
      free(grown ? grown : data);
      fclose(f);
      return NULL;
    }
    data = grown;
    n = fread(data + size, 1, 65536, f);
    size += n;
  } while (n > 0);
  if (ferror(f)) {
    unreadable(l, path);
    free(data);
    data = NULL;
  } else {
    data[size] = 0;
  }
  fclose(f);
  return data;
}

/*
 * JSON, by position: a value is a pointer to its first character. skip() finds the end of a value, member() and next()
 * step into objects and arrays. Text without escapes is all that these documents need.
 */
static const char *space(const char *p)
{
  while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') p++;
  return p;
}

static const char *skip(const char *p)
{
  int depth = 0;
  p = space(p);
  do {
    if (*p == '"') {
      for (p++; *p && *p != '"'; p++)
        if (*p == '\\' && p[1]) p++;
      if (!*p) return p;
      p++;
    } else if (*p == '{' || *p == '[') {
      depth++;
      p++;
    } else if (*p == '}' || *p == ']') {
      depth--;
      p++;
    } else if (*p) {
      p++;
      if (!depth)
        while (*p && !strchr(",]} \n\r\t", *p)) p++;
    } else {
      return p;
    }
  } while (depth > 0);
  return p;
}

/* The value of an object's member, or NULL. */
static const char *member(const char *object, const char *key)
{
  const char *p;
  if (!object || *(p = space(object)) != '{') return NULL;
  for (p = space(p + 1); *p == '"'; p = space(p + 1)) {
    const char *name = p + 1, *value;
    size_t len;
    p = skip(p);
    len = (size_t)(p - name) - 1;
    p = space(p);
    if (*p != ':') return NULL;
    value = space(p + 1);
    if (len == strlen(key) && !memcmp(name, key, len)) return value;
    p = space(skip(value));
    if (*p != ',') return NULL;
  }
  return NULL;
}

/* The first element of an array, or after `element` the next one; NULL at the end. */
static const char *next(const char *array, const char *element)
{
  const char *p;
  if (!array || *array != '[') return NULL;
  p = space(element ? skip(element) : array + 1);
  if (element) {
    if (*p != ',') return NULL;
    p = space(p + 1);
  }
  return *p && *p != ']' ? p : NULL;
}

static int text(const char *value, char *out, size_t size)
{
  size_t len;
  if (!value || *value != '"') return -1;
  len = (size_t)(skip(value) - value);
  if (len < 2 || len - 2 >= size || memchr(value, '\\', len)) return -1;
  memcpy(out, value + 1, len - 2);
  out[len - 2] = 0;
  return 0;
}

static int descriptor(const char *value, layout_blob *out)
{
  const char *size = member(value, "size");
  memset(out, 0, sizeof(*out));
  if (text(member(value, "digest"), out->digest, sizeof(out->digest)) || !size) return -1;
  /* The digest becomes part of a path below. */
  if (strchr(out->digest, '/') || strchr(out->digest, '.') || !strchr(out->digest, ':')) return -1;
  out->size = strtoll(size, NULL, 10);
  return 0;
}

static const char *find_manifest(const char *index, const char *tag)
{
  const char *m = NULL, *manifests = member(index, "manifests");
  char name[256];
  while ((m = next(manifests, m))) {
    const char *value = member(member(m, "annotations"), "org.opencontainers.image.ref.name");
    if (!tag || (!text(value, name, sizeof(name)) && !strcmp(name, tag))) return m;
  }
  return NULL;
}

/* The diff_ids of the layers are in the config. */
static int read_config(layout *l, const char *config)
{
  const char *id = NULL, *ids = member(member(config, "rootfs"), "diff_ids");
  size_t i;
  for (i = 0; i < l->layer_count; i++) {
    if (!(id = next(ids, id))) return bad(l, l->dir, "fewer diff_ids than layers");
    if (text(id, l->layers[i].diff_id, sizeof(l->layers[i].diff_id))) return bad(l, l->dir, "bad diff_id");
  }
  return next(ids, id) && id ? bad(l, l->dir, "more diff_ids than layers") : 0;
}

static int read_manifest(layout *l, const char *manifest)
{
  const char *layer = NULL, *layers = member(manifest, "layers");
  if (descriptor(member(manifest, "config"), &l->config)) return bad(l, l->dir, "no config in the manifest");
  while ((layer = next(layers, layer))) {
    layout_blob *grown;
    if (l->layer_count == MOST_LAYERS) return bad(l, l->dir, "too many layers");
    if (!(grown = realloc(l->layers, (l->layer_count + 1) * sizeof(*grown)))) return bad(l, l->dir, "out of memory");
    l->layers = grown;
    if (descriptor(layer, &l->layers[l->layer_count])) return bad(l, l->dir, "bad layer descriptor");
    l->layer_count++;
  }
  return 0;
}

static int with_document(layout *l, const layout_blob *blob, int (*read)(layout *, const char *))
{
  char path[8192], *data;
  int result;
  layout_blob_path(l, blob, path, sizeof(path));
  if (!(data = read_file(l, path))) return -1;
  result = read(l, data);
  free(data);
  return result;
}

int layout_open(layout *l, const char *dir, const char *tag)
{
  char path[8192], *index;
  int result;
  memset(l, 0, sizeof(*l));
  if (!*dir) return bad(l, "layout", "no folder is named");
  if (strlen(dir) >= sizeof(l->dir)) return bad(l, dir, "path too long");
  strcpy(l->dir, dir);
  snprintf(path, sizeof(path), "%s/index.json", dir);
  if (!(index = read_file(l, path))) return -1;
  if (descriptor(find_manifest(index, tag), &l->manifest))
    result = bad(l, dir, "no such image in index.json");
  else
    result = with_document(l, &l->manifest, read_manifest) || with_document(l, &l->config, read_config) ? -1 : 0;
  free(index);
  if (result) layout_close(l);
  return result;
}

void layout_close(layout *l)
{
  free(l->layers);
  l->layers = NULL;
  l->layer_count = 0;
}

void layout_blob_path(const layout *l, const layout_blob *blob, char *path, size_t size)
{
  const char *colon = strchr(blob->digest, ':');
  snprintf(path, size, "%s/blobs/%.*s/%s", l->dir, (int)(colon - blob->digest), blob->digest, colon + 1);
}
