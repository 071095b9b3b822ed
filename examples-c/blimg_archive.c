/* blimg import, export: images out of files, and into them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blimg.h"

static int32_t show(const bl_progress *progress, void *user_data)
{
  (void)user_data;
  fprintf(stderr, "\r%llu MB", (unsigned long long)(progress->bytes_in >> 20));
  fflush(stderr);
  return 0;
}

static void print_imported(const app *a, const char *name)
{
  char *familiar;
  if (!prints(a)) return;
  familiar = familiar_name(a, name);
  if (a->json) {
    putchar('{');
    json_text("image", name);
    putchar(',');
    json_text("familiar_name", familiar);
    puts("}");
  } else {
    puts(familiar ? familiar : name);
  }
  free(familiar);
}

static int run_import(app *a)
{
  const char *from = a->given.args[0];
  bl_import_options importing = BL_IMPORT_OPTIONS_INIT;
  bl_tree_options tree = given_tree(a);
  bl_names *names = NULL;
  bl_error *err = NULL;
  bl_status status;
  size_t i;
  importing.flags = option_flag(&a->given, "--no-unpack", BL_IMPORT_NO_UNPACK) |
                    option_flag(&a->given, "--hard-link", BL_IMPORT_HARD_LINK);
  tree.flags |= option_flag(&a->given, "--devices", BL_TREE_DEVICE_NODES);
  if (a->given.is_wrong) return 2;
  importing.tree = &tree;
  importing.select = option_text(&a->given, "--select");
  importing.name = option_text(&a->given, "--name");
  importing.platform = option_text(&a->given, "--platform");
  importing.cancel = on_interrupt;
  if (is_shown(a)) importing.progress = show;
  status = strcmp(from, "-") ? bl_import(a->storage, from, &importing, &names, &err)
                             : bl_import_fd(a->storage, 0, &importing, &names, &err);
  end_progress(a);
  if (status) return failed(a, err);
  for (i = 0; i < bl_names_count(names); i++) print_imported(a, bl_names_get(names, i));
  bl_names_free(names);
  return 0;
}

static const option import_options[] = {
  {"--select", "NAME", "one image of several, by its name in the archive"},
  {"--name", "NAME", "what the image is called in the store"},
  {"--platform", "PLATFORM", "os/architecture[/variant]; this machine's by default"},
  {"--no-unpack", NULL, "store the layers, and extract them later"},
  {"--form", "FORM", "of the extracted layers: " FORMS},
  {"--devices", NULL, "as root, make device nodes"},
  {"--hard-link", NULL, "layers of a folder get a further name, where the file system can"},
  {NULL, NULL, NULL},
};
const command import_command = {"import", "FROM", "images of an OCI layout or docker-save archive, a folder or - (standard input)",
                                import_options, run_import};

static int run_export(app *a)
{
  size_t opened = 0, count = a->given.arg_count - 1;
  const char *out = a->given.args[count];
  bl_export_options exporting = BL_EXPORT_OPTIONS_INIT;
  bl_image **images = calloc(count, sizeof(*images));
  bl_error *err = NULL;
  bl_status status = BL_OK;
  if (!images) return failed_with(a, "INTERNAL", "out of memory");
  exporting.flags =
    option_flag(&a->given, "--folder", BL_EXPORT_FOLDER) | option_flag(&a->given, "--replace", BL_EXPORT_REPLACE);
  exporting.cancel = on_interrupt;
  while (opened < count && !(status = bl_image_open(a->storage, a->given.args[opened], &images[opened], &err))) opened++;
  if (!status)
    status = strcmp(out, "-") ? bl_export(a->storage, images, count, out, &exporting, &err)
                              : bl_export_fd(a->storage, images, count, 1, &exporting, &err);
  while (opened > 0) bl_image_free(images[--opened]);
  free(images);
  return status ? failed(a, err) : 0;
}

static const option export_options[] = {
  {"--folder", NULL, "a folder, not an archive"},
  {"--replace", NULL, "take the place of what is there"},
  {NULL, NULL, NULL},
};
const command export_command = {"export", "IMAGE... OUT", "images as an OCI layout that docker load takes too; - is standard output",
                                export_options, run_export};
