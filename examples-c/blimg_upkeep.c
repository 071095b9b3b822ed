/* blimg gc, check, df, lease: what keeps a store small and sound. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blimg.h"

static void print_removed(const char *object, void *user_data)
{
  const app *a = user_data;
  if (a->json) {
    printf("{\"removed\":");
    json_string(object);
    puts("}");
  } else if (!a->quiet) {
    puts(object);
  }
}

int cmd_gc(const app *a, char **args)
{
  app copy = *a;
  bl_gc_options options = BL_GC_OPTIONS_INIT;
  bl_gc_result result = BL_GC_RESULT_INIT;
  bl_error *err = NULL;
  for (; args[0]; args++)
    if (!strcmp(args[0], "--dry-run"))
      options.flags |= BL_GC_DRY_RUN;
    else if (!strcmp(args[0], "--any-age"))
      options.flags |= BL_GC_ANY_AGE;
    else
      return usage();
  options.cancel = on_interrupt;
  options.on_removed = print_removed;
  options.user_data = &copy;
  if (bl_gc(a->storage, &options, &result, &err)) return failed(err);
  if (a->json)
    printf("{\"count\":%llu,\"bytes\":%llu,\"kept\":%llu}\n", (unsigned long long)result.removed,
           (unsigned long long)result.bytes, (unsigned long long)result.kept);
  else if (!a->quiet)
    printf("%llu objects, %llu bytes; %llu kept\n", (unsigned long long)result.removed,
           (unsigned long long)result.bytes, (unsigned long long)result.kept);
  return 0;
}

static void print_finding(const bl_finding *finding, void *user_data)
{
  const app *a = user_data;
  if (a->json) {
    printf("{\"object\":");
    json_string(finding->object);
    printf(",\"message\":");
    json_string(finding->message);
    printf(",\"problem\":\"%s\",\"quarantined\":%s}\n",
           finding->problem == BL_PROBLEM_MISSING ? "missing" : "damaged", finding->quarantined ? "true" : "false");
  } else if (!a->quiet) {
    printf("%s%s\n", finding->message, finding->quarantined ? " (moved to quarantine)" : "");
  }
}

/* "No" is when something is wrong that was not mended. */
int cmd_check(const app *a, char **args)
{
  app copy = *a;
  bl_check_options options = BL_CHECK_OPTIONS_INIT;
  bl_check_result result = BL_CHECK_RESULT_INIT;
  bl_error *err = NULL;
  for (; args[0]; args++)
    if (!strcmp(args[0], "--repair"))
      options.flags |= BL_CHECK_REPAIR;
    else if (!strcmp(args[0], "--skip-trees"))
      options.flags |= BL_CHECK_SKIP_TREES;
    else if (!strcmp(args[0], "--rate") && args[1])
      options.bytes_per_second = strtoull(*++args, NULL, 10);
    else
      return usage();
  options.cancel = on_interrupt;
  options.on_finding = print_finding;
  options.user_data = &copy;
  if (bl_check(a->storage, &options, &result, &err)) return failed(err);
  if (!a->quiet)
    printf(a->json ? "{\"objects\":%llu,\"bytes\":%llu,\"skipped\":%llu,\"damaged\":%llu,\"missing\":%llu}\n"
                   : "%llu objects, %llu bytes; %llu skipped, %llu damaged, %llu incomplete images\n",
           (unsigned long long)result.objects, (unsigned long long)result.bytes, (unsigned long long)result.skipped,
           (unsigned long long)result.damaged, (unsigned long long)result.missing);
  return result.missing > 0 || result.damaged > result.quarantined;
}

static void print_usage_of(const app *a, const char *kind, uint64_t objects, uint64_t bytes)
{
  if (a->quiet) return;
  printf(a->json ? "{\"kind\":\"%s\",\"objects\":%llu,\"bytes\":%llu}\n" : "%-12s %8llu %16llu\n", kind,
         (unsigned long long)objects, (unsigned long long)bytes);
}

int cmd_df(const app *a, char **args)
{
  bl_disk_usage_result usage_of = BL_DISK_USAGE_RESULT_INIT;
  bl_error *err = NULL;
  if (args[0]) return usage();
  if (bl_disk_usage(a->storage, &usage_of, &err)) return failed(err);
  print_usage_of(a, "manifests", usage_of.manifests, usage_of.manifest_bytes);
  print_usage_of(a, "configs", usage_of.configs, usage_of.config_bytes);
  print_usage_of(a, "layers", usage_of.layers, usage_of.layer_bytes);
  print_usage_of(a, "trees", usage_of.trees, usage_of.tree_bytes);
  print_usage_of(a, "partials", usage_of.partials, usage_of.partial_bytes);
  print_usage_of(a, "quarantined", usage_of.quarantined, usage_of.quarantined_bytes);
  if (!a->quiet)
    printf(a->json ? "{\"free\":%llu,\"total\":%llu}\n" : "%llu bytes of %llu free\n",
           (unsigned long long)usage_of.free_bytes, (unsigned long long)usage_of.total_bytes);
  return 0;
}

int cmd_lease(const app *a, char **args)
{
  bl_lease *lease = NULL;
  bl_error *err = NULL;
  if (!args[0] || !args[1]) return usage();
  if (!strcmp(args[0], "create")) {
    if (args[2]) return usage();
    if (!bl_lease_create(a->storage, strtoull(args[1], NULL, 10), &lease, &err)) puts(bl_lease_id(lease));
  } else if (!strcmp(args[0], "release")) {
    if (args[2]) return usage();
    if (!bl_lease_open(a->storage, args[1], &lease, &err)) bl_lease_release(lease, &err);
  } else if (!strcmp(args[0], "hold") && args[2] && !args[3]) {
    if (!bl_lease_open(a->storage, args[1], &lease, &err)) bl_lease_hold(lease, args[2], &err);
  } else if (!strcmp(args[0], "extend") && args[2] && !args[3]) {
    if (!bl_lease_open(a->storage, args[1], &lease, &err)) bl_lease_extend(lease, strtoull(args[2], NULL, 10), &err);
  } else {
    return usage();
  }
  bl_lease_free(lease);
  return err ? failed(err) : 0;
}
