/* blimg rootfs, mount-options, config: what a host needs to run an image. */
#include <stdio.h>

#include "blimg.h"

static int32_t show(const bl_progress *progress, void *user_data)
{
  (void)user_data;
  fprintf(stderr, "\r%llu entries", (unsigned long long)progress->entries);
  fflush(stderr);
  return 0;
}

static int run_rootfs(app *a)
{
  static const char *const modes[] = {"copy", "reflink", "hardlink", "direct", NULL};
  static const uint32_t numbers[] = {BL_ROOTFS_MODE_COPY, BL_ROOTFS_MODE_REFLINK, BL_ROOTFS_MODE_HARDLINK, BL_ROOTFS_MODE_DIRECT};
  const char *image_name = a->given.args[0], *dir = a->given.args[1];
  bl_rootfs_options assembling = BL_ROOTFS_OPTIONS_INIT;
  bl_rootfs_result result = BL_ROOTFS_RESULT_INIT;
  bl_tree_options tree = BL_TREE_OPTIONS_INIT;
  bl_image *image = NULL;
  bl_error *err = NULL;
  bl_status status;
  assembling.mode = numbers[option_word(&a->given, "--mode", modes)];
  assembling.flags = option_flag(&a->given, "--replace", BL_ROOTFS_REPLACE) |
                     option_flag(&a->given, "--into-existing", BL_ROOTFS_INTO_EXISTING);
  tree.flags = option_flag(&a->given, "--devices", BL_TREE_DEVICE_NODES) |
               option_flag(&a->given, "--override-stat", BL_TREE_OVERRIDE_STAT);
  assembling.tree = &tree;
  assembling.record_path = option_text(&a->given, "--record");
  assembling.cancel = on_interrupt;
  if (is_shown(a)) assembling.progress = show;
  if (a->given.is_wrong) return 2;
  if (bl_image_open(a->storage, image_name, &image, &err)) return failed(a, err);
  status = bl_assemble_rootfs(a->storage, image, dir, &assembling, &result, &err);
  bl_image_free(image);
  end_progress(a);
  if (status) return failed(a, err);
  if (a->json) {
    putchar('{');
    json_text("rootfs", dir);
    printf(",\"layers\":%llu,\"entries\":%llu,\"anomalies\":%llu}\n", (unsigned long long)result.layers,
           (unsigned long long)result.entries, (unsigned long long)result.anomalies);
  } else if (prints(a)) {
    printf("%s: %llu entries of %llu layers\n", dir, (unsigned long long)result.entries,
           (unsigned long long)result.layers);
  }
  return 0;
}

static const option rootfs_options[] = {
  {"--mode", "MODE", "copy (the default), reflink, hardlink, direct"},
  {"--replace", NULL, "take the place of a directory that is not empty"},
  {"--into-existing", NULL, "fill the directory where it is, as a mount point always is"},
  {"--devices", NULL, "as root, make device nodes"},
  {"--override-stat", NULL, "write owners and modes to user.containers.override_stat as well"},
  {"--record", "FILE", "where the metadata record goes; for an ordinary user beside DIR by default"},
  {NULL, NULL, NULL},
};
const command rootfs_command = {"rootfs", "IMAGE DIR", "make an image's root file system", rootfs_options, run_rootfs};

static void print_overlay(const app *a, const bl_overlay *overlay, const bl_lease *lease)
{
  const char *dir = bl_overlay_mount_dir(overlay);
  size_t i;
  if (a->json) {
    putchar('{');
    json_text("options", bl_overlay_mount_options(overlay));
    putchar(',');
    json_text("mount_dir", dir);
    printf(",\"lower_dirs\":[");
    for (i = 0; i < bl_overlay_lower_dir_count(overlay); i++) {
      if (i) putchar(',');
      json_string(bl_overlay_lower_dir(overlay, i));
    }
    printf("],");
    json_text("lease", bl_lease_id(lease));
    puts("}");
    return;
  }
  printf("%s\n", bl_overlay_mount_options(overlay));
  if (dir) fprintf(stderr, "to be mounted from %s\n", dir);
  fprintf(stderr, "held by lease %s\n", bl_lease_id(lease));
}

static int run_mount_options(app *a)
{
  bl_overlay_options preparing = BL_OVERLAY_OPTIONS_INIT;
  bl_tree_options tree = BL_TREE_OPTIONS_INIT;
  bl_overlay *overlay = NULL;
  bl_lease *lease = NULL;
  bl_image *image = NULL;
  bl_error *err = NULL;
  bl_status status;
  if (option_flag(&a->given, "--user-xattr", 1)) tree.whiteouts = BL_WHITEOUTS_USER_OVERLAY;
  preparing.tree = &tree;
  preparing.lease_seconds = option_seconds(&a->given, "--seconds");
  preparing.cancel = on_interrupt;
  if (a->given.is_wrong) return 2;
  if (bl_image_open(a->storage, a->given.args[0], &image, &err)) return failed(a, err);
  status = bl_prepare_overlay(a->storage, image, &preparing, &overlay, &lease, &err);
  bl_image_free(image);
  if (status) return failed(a, err);
  print_overlay(a, overlay, lease);
  bl_overlay_free(overlay);
  bl_lease_free(lease);
  return 0;
}

static const option mount_options[] = {
  {"--user-xattr", NULL, "for a mount with userxattr, as in a user namespace"},
  {"--seconds", "TIME", "how long the layers are held; a day by default"},
  {NULL, NULL, NULL},
};
const command mount_options_command = {"mount-options", "IMAGE", "what goes behind mount -t overlay -o, from STORE/links", mount_options,
                                       run_mount_options};

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

static int run_config(app *a)
{
  bl_process *process = NULL;
  bl_image *image = NULL;
  bl_error *err = NULL;
  bl_status status;
  if (bl_image_open(a->storage, a->given.args[0], &image, &err)) return failed(a, err);
  status = bl_image_process(a->storage, image, a->given.args[1], &process, &err);
  bl_image_free(image);
  if (status) return failed(a, err);
  if (option_text(&a->given, "--runtime-json"))
    puts(bl_process_text(process, BL_PROCESS_RUNTIME_JSON, 0));
  else if (prints(a))
    print_process(a, process);
  bl_process_free(process);
  return 0;
}

static const option config_options[] = {
  {"--runtime-json", NULL, "as the process object of an OCI runtime configuration"},
  {NULL, NULL, NULL},
};
const command config_command = {"config", "IMAGE [ROOTFS]", "how to start an image: command, variables, directory, user",
                                config_options, run_config};
