/* blimg tag, ls, inspect, rm: images by their names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blimg.h"

static int run_tag(app *a)
{
  bl_error *err = NULL;
  return bl_tag_image(a->storage, a->given.args[1], a->given.args[0], &err) ? failed(a, err) : 0;
}

const command tag_command = {"tag", "DIGEST NAME", "give an image that is in the store a name", NULL, run_tag};

static int run_rm(app *a)
{
  bl_error *err = NULL;
  return bl_remove_image(a->storage, a->given.args[0], &err) ? failed(a, err) : 0;
}

const command rm_command = {"rm", "NAME", "take an image's name away; gc removes what then has none", NULL, run_rm};

char *familiar_name(const app *a, const char *name)
{
  bl_image *image = NULL;
  const char *familiar = NULL;
  char *copy;
  if (!bl_image_open(a->storage, name, &image, NULL)) familiar = bl_image_text(image, BL_IMAGE_FAMILIAR_NAME, 0);
  if (!familiar) familiar = name;
  copy = malloc(strlen(familiar) + 1);
  if (copy) strcpy(copy, familiar);
  bl_image_free(image);
  return copy;
}

/* One line an image: name, digest of the manifest, size. */
static int ls_one(const app *a, const char *name)
{
  bl_image_usage usage = BL_IMAGE_USAGE_INIT;
  bl_image *image = NULL;
  bl_error *err = NULL;
  const char *digest, *familiar;
  if (bl_image_open(a->storage, name, &image, &err) || bl_image_get_usage(a->storage, image, &usage, &err)) {
    bl_image_free(image);
    return failed(a, err);
  }
  digest = bl_image_text(image, BL_IMAGE_MANIFEST_DIGEST, 0);
  familiar = bl_image_text(image, BL_IMAGE_FAMILIAR_NAME, 0);
  if (a->json) {
    putchar('{');
    json_text("name", name);
    putchar(',');
    json_text("familiar_name", familiar);
    putchar(',');
    json_text("manifest", digest);
    printf(",\"compressed_bytes\":%llu,\"extracted_bytes\":%llu,\"shared_bytes\":%llu,\"unique_bytes\":%llu}\n",
           (unsigned long long)usage.compressed_bytes, (unsigned long long)usage.extracted_bytes,
           (unsigned long long)usage.shared_bytes, (unsigned long long)usage.unique_bytes);
  } else if (prints(a)) {
    printf("%s %s %llu\n", familiar ? familiar : name, digest, (unsigned long long)usage.compressed_bytes);
  }
  bl_image_free(image);
  return 0;
}

static int run_ls(app *a)
{
  bl_names *names = NULL;
  bl_error *err = NULL;
  size_t i;
  int result = 0;
  if (bl_image_list(a->storage, &names, &err)) return failed(a, err);
  for (i = 0; i < bl_names_count(names); i++) result |= ls_one(a, bl_names_get(names, i));
  bl_names_free(names);
  return result;
}

const command ls_command = {"ls", "", "list the images: name, manifest, bytes of the layers", NULL, run_ls};

static const struct {
  const char *label;
  uint32_t field;
} image_texts[] = {
  {"name", BL_IMAGE_NAME},
  {"familiar_name", BL_IMAGE_FAMILIAR_NAME},
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
    printf(a->json ? ",\"size\":%llu,\"diff_id\":" : " %llu ", (unsigned long long)layer.size_bytes);
    json_string(layer.diff_id ? layer.diff_id : "");
    puts(a->json ? "}" : "");
  }
}

static int run_inspect(app *a)
{
  bl_image *image = NULL;
  bl_error *err = NULL;
  if (bl_image_open(a->storage, a->given.args[0], &image, &err)) return failed(a, err);
  if (prints(a)) print_image(a, image);
  bl_image_free(image);
  return 0;
}

const command inspect_command = {"inspect", "IMAGE", "say what an image is; IMAGE is a name or a digest", NULL, run_inspect};
