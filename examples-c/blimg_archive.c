/* blimg import, export: images out of files, and into them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blimg.h"

static int set_options(bl_import_options *options, char **args)
{
  for (; *args; args++) {
    if (!strcmp(*args, "--no-unpack"))
      options->flags |= BL_IMPORT_NO_UNPACK;
    else if (!strcmp(*args, "--devices"))
      options->flags |= BL_IMPORT_DEVICE_NODES;
    else if (!strcmp(*args, "--hard-link"))
      options->flags |= BL_IMPORT_HARD_LINK;
    else if (!args[1])
      return 0;
    else if (!strcmp(*args, "--select"))
      options->select = *++args;
    else if (!strcmp(*args, "--name"))
      options->name = *++args;
    else if (!strcmp(*args, "--platform"))
      options->platform = *++args;
    else
      return 0;
  }
  return 1;
}

static int32_t show(const bl_progress *progress, void *user_data)
{
  (void)user_data;
  fprintf(stderr, "\r%llu MB", (unsigned long long)(progress->bytes_in >> 20));
  fflush(stderr);
  return 0;
}

/* "-" is standard input. A line for each image: what it is called now. */
int cmd_import(const app *a, char **args)
{
  bl_import_options options = BL_IMPORT_OPTIONS_INIT;
  bl_names *names = NULL;
  bl_error *err = NULL;
  bl_status status;
  size_t i;
  int is_shown = !a->quiet && !a->json && isatty(2);
  if (!args[0] || !set_options(&options, args + 1)) return usage();
  options.cancel = on_interrupt;
  if (is_shown) options.progress = show;
  status = strcmp(args[0], "-") ? bl_import(a->storage, args[0], &options, &names, &err)
                                : bl_import_fd(a->storage, 0, &options, &names, &err);
  if (is_shown) fputs("\r\033[K", stderr);
  if (status) return failed(err);
  for (i = 0; i < bl_names_count(names); i++) {
    if (a->json) {
      printf("{\"image\":");
      json_string(bl_names_get(names, i));
      puts("}");
    } else if (!a->quiet) {
      puts(bl_names_get(names, i));
    }
  }
  bl_names_free(names);
  return 0;
}

/* "-" is standard output. */
int cmd_export(const app *a, char **args)
{
  bl_export_options options = BL_EXPORT_OPTIONS_INIT;
  bl_image **images;
  bl_error *err = NULL;
  bl_status status = BL_OK;
  size_t i, count = 0, most = 0;
  char **arg;
  if (!args[0]) return usage();
  for (arg = args + 1; *arg; arg++) most++;
  images = calloc(most + 1, sizeof(*images));
  if (!images) return fputs("blimg: out of memory\n", stderr), 1;
  for (arg = args + 1; *arg && !status; arg++) {
    if (!strcmp(*arg, "--folder"))
      options.flags |= BL_EXPORT_FOLDER;
    else if (!strcmp(*arg, "--replace"))
      options.flags |= BL_EXPORT_REPLACE;
    else if (!(status = bl_image_open(a->storage, *arg, &images[count], &err)))
      count++;
  }
  options.cancel = on_interrupt;
  if (status || count == 0)
    ;
  else if (strcmp(args[0], "-"))
    status = bl_export(a->storage, images, count, args[0], &options, &err);
  else
    status = bl_export_fd(a->storage, images, count, 1, &options, &err);
  for (i = 0; i < count; i++) bl_image_free(images[i]);
  free(images);
  if (status) return failed(err);
  return count ? 0 : usage();
}
