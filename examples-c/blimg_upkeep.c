/* blimg gc, check, df, lease: what keeps a store small and sound. */
#include <stdio.h>
#include <string.h>

#include "blimg.h"

static void print_removed(const char *object, void *user_data)
{
  const app *a = user_data;
  if (a->json) {
    putchar('{');
    json_text("removed", object);
    puts("}");
  } else if (prints(a)) {
    puts(object);
  }
}

static int run_gc(app *a)
{
  bl_gc_options collecting = BL_GC_OPTIONS_INIT;
  bl_gc_result result = BL_GC_RESULT_INIT;
  bl_error *err = NULL;
  collecting.flags =
    option_flag(&a->given, "--dry-run", BL_GC_DRY_RUN) | option_flag(&a->given, "--any-age", BL_GC_ANY_AGE);
  collecting.max_disk_idle_seconds = option_seconds(&a->given, "--idle-disks");
  if (a->given.is_wrong) return 2;
  collecting.cancel = on_interrupt;
  collecting.on_removed = print_removed;
  collecting.on_removed_data = a;
  if (bl_gc(a->storage, &collecting, &result, &err)) return failed(a, err);
  if (a->json)
    printf("{\"count\":%llu,\"bytes\":%llu,\"kept\":%llu}\n", (unsigned long long)result.removed,
           (unsigned long long)result.bytes, (unsigned long long)result.kept);
  else if (prints(a))
    printf("%llu objects, %llu bytes; %llu kept\n", (unsigned long long)result.removed,
           (unsigned long long)result.bytes, (unsigned long long)result.kept);
  return 0;
}

static const option gc_options[] = {
  {"--dry-run", NULL, "say what would go, and leave it"},
  {"--any-age", NULL, "also what is younger than an hour"},
  {"--idle-disks", "TIME", "also disks that nobody has asked for in this time"},
  {NULL, NULL, NULL},
};
const command gc_command = {"gc", "", "remove what no name and no lease reaches", gc_options, run_gc};

static void print_finding(const bl_finding *finding, void *user_data)
{
  const app *a = user_data;
  if (a->json) {
    putchar('{');
    json_text("object", finding->object);
    putchar(',');
    json_text("message", finding->message);
    printf(",\"problem\":\"%s\",\"quarantined\":%s}\n",
           finding->problem == BL_PROBLEM_MISSING ? "missing" : "damaged", finding->quarantined ? "true" : "false");
  } else if (prints(a)) {
    printf("%s%s\n", finding->message, finding->quarantined ? " (moved to quarantine)" : "");
  }
}

/* "No" is when something is wrong that was not mended. */
static int run_check(app *a)
{
  bl_check_options checking = BL_CHECK_OPTIONS_INIT;
  bl_check_result result = BL_CHECK_RESULT_INIT;
  bl_error *err = NULL;
  checking.flags =
    option_flag(&a->given, "--repair", BL_CHECK_REPAIR) | option_flag(&a->given, "--skip-trees", BL_CHECK_SKIP_TREES);
  checking.bytes_per_second = option_size(&a->given, "--rate");
  checking.cancel = on_interrupt;
  checking.on_finding = print_finding;
  checking.on_finding_data = a;
  if (a->given.is_wrong) return 2;
  if (bl_check(a->storage, &checking, &result, &err)) return failed(a, err);
  if (prints(a))
    printf(a->json ? "{\"objects\":%llu,\"bytes\":%llu,\"skipped\":%llu,\"damaged\":%llu,\"missing\":%llu}\n"
                   : "%llu objects, %llu bytes; %llu skipped, %llu damaged, %llu incomplete images\n",
           (unsigned long long)result.objects, (unsigned long long)result.bytes, (unsigned long long)result.skipped,
           (unsigned long long)result.damaged, (unsigned long long)result.missing);
  return result.missing > 0 || result.damaged > result.quarantined;
}

static const option check_options[] = {
  {"--repair", NULL, "move what is damaged to quarantine, so that it can come anew"},
  {"--skip-trees", NULL, "leave extracted layers out"},
  {"--rate", "SIZE", "bytes a second at most"},
  {NULL, NULL, NULL},
};
const command check_command = {"check", "", "read everything and compare it; exit 1: something is wrong", check_options, run_check};

static void print_usage_of(const app *a, const char *kind, uint64_t objects, uint64_t bytes)
{
  if (!prints(a)) return;
  printf(a->json ? "{\"kind\":\"%s\",\"objects\":%llu,\"bytes\":%llu}\n" : "%-12s %8llu %16llu\n", kind,
         (unsigned long long)objects, (unsigned long long)bytes);
}

static int run_df(app *a)
{
  bl_disk_usage_result usage_of = BL_DISK_USAGE_RESULT_INIT;
  bl_error *err = NULL;
  if (bl_disk_usage(a->storage, &usage_of, &err)) return failed(a, err);
  print_usage_of(a, "manifests", usage_of.manifests, usage_of.manifest_bytes);
  print_usage_of(a, "configs", usage_of.configs, usage_of.config_bytes);
  print_usage_of(a, "layers", usage_of.layers, usage_of.layer_bytes);
  print_usage_of(a, "trees", usage_of.trees, usage_of.tree_bytes);
  print_usage_of(a, "disks", usage_of.disks, usage_of.disk_bytes);
  print_usage_of(a, "partials", usage_of.partials, usage_of.partial_bytes);
  print_usage_of(a, "quarantined", usage_of.quarantined, usage_of.quarantined_bytes);
  if (prints(a))
    printf(a->json ? "{\"free\":%llu,\"total\":%llu}\n" : "%llu bytes of %llu free\n",
           (unsigned long long)usage_of.free_bytes, (unsigned long long)usage_of.total_bytes);
  return 0;
}

const command df_command = {"df", "", "how much each kind of object takes", NULL, run_df};

static int create_lease(const app *a, uint64_t seconds)
{
  bl_lease *lease = NULL;
  bl_error *err = NULL;
  if (bl_lease_create(a->storage, seconds, &lease, &err)) return failed(a, err);
  if (a->json) {
    putchar('{');
    json_text("lease", bl_lease_id(lease));
    puts("}");
  } else {
    puts(bl_lease_id(lease));
  }
  bl_lease_free(lease);
  return 0;
}

static int run_lease(app *a)
{
  static const char *const actions[] = {"create", "hold", "extend", "release", NULL};
  static const size_t counts[] = {2, 3, 3, 2};
  char **args = a->given.args;
  uint64_t seconds = 0;
  bl_lease *lease = NULL;
  bl_error *err = NULL;
  size_t action;
  for (action = 0; args[0] && actions[action] && strcmp(args[0], actions[action]);) action++;
  if (!args[0] || !actions[action]) return wrong_usage("lease", "create, hold, extend or release?");
  if (a->given.arg_count != counts[action])
    return wrong_usage("lease", "%s takes %d arguments", actions[action], (int)counts[action] - 1);
  /* The time is what comes last. */
  if ((action == 0 || action == 2) && (!parse_seconds(args[counts[action] - 1], &seconds) || !seconds))
    return wrong_usage("lease", "'%s' is not a time, such as 90, 500ms or 2h", args[counts[action] - 1]);
  if (action == 0) return create_lease(a, seconds);
  if (bl_lease_open(a->storage, args[1], &lease, &err)) return failed(a, err);
  if (action == 1)
    bl_lease_hold(lease, args[2], &err);
  else if (action == 2)
    bl_lease_extend(lease, seconds, &err);
  else
    bl_lease_release(lease, &err);
  bl_lease_free(lease);
  return err ? failed(a, err) : 0;
}

const command lease_command = {"lease", "create TIME | hold ID DIGEST | extend ID TIME | release ID",
                               "hold what has no name", NULL, run_lease};
