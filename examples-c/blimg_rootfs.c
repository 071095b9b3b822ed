/* blimg rootfs, mount-options, config: what a host needs to run an image. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blimg.h"

static int set_mode(bl_rootfs_options *options, const char *mode)
{
  static const char *const modes[] = {"copy", "reflink", "hardlink", "direct"};
  static const uint32_t numbers[] = {BL_ROOTFS_COPY, BL_ROOTFS_REFLINK, BL_ROOTFS_HARDLINK, BL_ROOTFS_DIRECT};
  size_t i;
  for (i = 0; i < sizeof(modes) / sizeof(*modes); i++)
    if (!strcmp(mode, modes[i])) return options->mode = numbers[i], 1;
  return 0;
}

static int set_options(bl_rootfs_options *options, char **args)
{
  for (; *args; args++) {
    if (!strcmp(*args, "--replace"))
      options->flags |= BL_ROOTFS_REPLACE;
    else if (!strcmp(*args, "--into-existing"))
      options->flags |= BL_ROOTFS_INTO_EXISTING;
    else if (!strcmp(*args, "--devices"))
      options->flags |= BL_ROOTFS_DEVICE_NODES;
    else if (!strcmp(*args, "--override-stat"))
      options->flags |= BL_ROOTFS_OVERRIDE_STAT;
    else if (!strcmp(*args, "--record") && args[1])
      options->record_path = *++args;
    else if (strcmp(*args, "--mode") || !args[1] || !set_mode(options, *++args))
      return 0;
  }
  return 1;
}

static int32_t show(const bl_progress *progress, void *user_data)
{
  (void)user_data;
  fprintf(stderr, "\r%llu entries", (unsigned long long)progress->entries);
  fflush(stderr);
  return 0;
}

int cmd_rootfs(const app *a, char **args)
{
  bl_rootfs_options options = BL_ROOTFS_OPTIONS_INIT;
  bl_rootfs_result result = BL_ROOTFS_RESULT_INIT;
  bl_image *image = NULL;
  bl_error *err = NULL;
  bl_status status;
  int is_shown = !a->quiet && !a->json && isatty(2);
  if (!args[0] || !args[1] || !set_options(&options, args + 2)) return usage();
  options.cancel = on_interrupt;
  if (is_shown) options.progress = show;
  if (bl_image_open(a->storage, args[0], &image, &err)) return failed(err);
  status = bl_assemble_rootfs(a->storage, image, args[1], &options, &result, &err);
  bl_image_free(image);
  if (is_shown) fputs("\r\033[K", stderr);
  if (status) return failed(err);
  if (a->json) {
    printf("{\"rootfs\":");
    json_string(args[1]);
    printf(",\"layers\":%llu,\"entries\":%llu,\"anomalies\":%llu}\n", (unsigned long long)result.layers,
           (unsigned long long)result.entries, (unsigned long long)result.anomalies);
  } else if (!a->quiet) {
    printf("%s: %llu entries of %llu layers\n", args[1], (unsigned long long)result.entries,
           (unsigned long long)result.layers);
  }
  return 0;
}

/* Prints what goes behind mount's -o, and the lease that holds the layers. */
int cmd_mount_options(const app *a, char **args)
{
  bl_overlay_settings settings = BL_OVERLAY_SETTINGS_INIT;
  bl_bytes *options = NULL;
  bl_lease *lease = NULL;
  bl_image *image = NULL;
  bl_error *err = NULL;
  bl_status status;
  char **arg;
  if (!args[0]) return usage();
  for (arg = args + 1; *arg; arg++) {
    if (!strcmp(*arg, "--user-xattr"))
      settings.flags |= BL_OVERLAY_USER_XATTR;
    else if (!strcmp(*arg, "--seconds") && arg[1])
      settings.lease_seconds = strtoull(*++arg, NULL, 10);
    else
      return usage();
  }
  settings.cancel = on_interrupt;
  if (bl_image_open(a->storage, args[0], &image, &err)) return failed(err);
  status = bl_overlay_options(a->storage, image, &settings, &options, &lease, &err);
  bl_image_free(image);
  if (status) return failed(err);
  if (a->json) {
    printf("{\"options\":");
    json_string(bl_bytes_str(options));
    printf(",\"lease\":");
    json_string(bl_lease_id(lease));
    puts("}");
  } else {
    printf("%s\n", bl_bytes_str(options));
    if (!a->quiet) fprintf(stderr, "held by lease %s\n", bl_lease_id(lease));
  }
  bl_bytes_free(options);
  bl_lease_free(lease);
  return 0;
}

/* A line for each text: with --json one object a line, the same way. */
static void print_process(const app *a, bl_process *process)
{
  static const char *const labels[] = {"", "arg", "env", "cwd", "home", "stop_signal"};
  bl_process_user user = BL_PROCESS_USER_INIT;
  const char *text;
  uint32_t field;
  size_t i;
  for (field = BL_PROCESS_ARG; field <= BL_PROCESS_STOP_SIGNAL; field++)
    for (i = 0; (text = bl_process_text(process, field, i)) != NULL; i++) {
      printf(a->json ? "{\"%s\":" : "%s: ", labels[field]);
      json_string(text);
      puts(a->json ? "}" : "");
    }
  if (bl_process_get_user(process, &user, NULL)) return;
  printf(a->json ? "{\"uid\":%u,\"gid\":%u,\"additional_gids\":[" : "uid: %u\ngid: %u\nadditional_gids:", user.uid, user.gid);
  for (i = 0; i < user.additional_gid_count; i++)
    printf("%s%u", a->json ? (i ? "," : "") : " ", user.additional_gids[i]);
  puts(a->json ? "]}" : "");
}

int cmd_config(const app *a, char **args)
{
  bl_process *process = NULL;
  bl_image *image = NULL;
  bl_error *err = NULL;
  bl_status status;
  int is_runtime = args[0] && args[1] && args[2] && !strcmp(args[2], "--runtime-json");
  if (!args[0] || !args[1] || (args[2] && (!is_runtime || args[3]))) return usage();
  if (bl_image_open(a->storage, args[0], &image, &err)) return failed(err);
  status = bl_image_process(image, args[1], &process, &err);
  bl_image_free(image);
  if (status) return failed(err);
  if (is_runtime)
    puts(bl_process_text(process, BL_PROCESS_RUNTIME_JSON, 0));
  else if (!a->quiet)
    print_process(a, process);
  bl_process_free(process);
  return 0;
}
