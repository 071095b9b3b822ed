/*
 * blimg: a small command line over the public header, to try the library with and to test it as a black box.
 * Exit status: 0 done, 1 failed (or "no", for has and check), 2 wrong usage. docs/blimg.md has all of it.
 */
#include "blimg.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const command *const commands[] = {
  &pull_command,    &import_command,  &export_command,        &ls_command,     &inspect_command, &tag_command,
  &rm_command,      &rootfs_command,  &mount_options_command, &config_command, &put_command,     &has_command,
  &verify_command,  &extract_command, &entries_command,       &cat_command,    &path_command,    &load_layout_command,
  &gc_command,      &check_command,   &df_command,            &lease_command,  &disk_command,
  &commit_command,  &squash_command,  &edit_command,
};
enum { COMMANDS = sizeof(commands) / sizeof(*commands) };

static const option common_options[] = {
  {"--store", "DIR", "the store's directory; otherwise $BLIMG_STORE"},
  {"--bundle", "DIR", "work on an OCI layout's folder where it is; its image is called \"bundle\""},
  {"--json", NULL, "print JSON, an object a line"},
  {"--quiet", NULL, "print nothing but errors, and with --json the results"},
  {"--read-only", NULL, "change nothing in the store"},
  {"--single-process", NULL, "the store is used by no other process, in a file system without file locks"},
  {"--help", NULL, "say what the command does"},
  {"-h", NULL, "the same"},
  {"--version", NULL, "say which version this is"},
  {NULL, NULL, NULL},
};

bl_cancel *on_interrupt;

static void interrupted(int signal)
{
  (void)signal;
  bl_cancel_trigger(on_interrupt);
}

/* One line on stderr; with --json the event as well. */
static void tell_error(const app *a, const char *status, const char *message, int http_status, const char *code)
{
  fprintf(stderr, "blimg: %s: ", status);
  put_line(stderr, message);
  putc('\n', stderr);
  if (!a->json) return;
  printf("{\"event\":\"error\",");
  json_text("status", status);
  printf(",\"http_status\":%d,", http_status);
  json_text("registry_code", code ? code : "");
  putchar(',');
  json_text("message", message);
  puts("}");
  fflush(stdout);
}

int failed(const app *a, bl_error *err)
{
  tell_error(a, bl_status_name(bl_error_status(err)), bl_error_message(err), (int)bl_error_http_status(err),
             bl_error_registry_code(err));
  bl_error_free(err);
  return 1;
}

const char *status_of_errno(int os_errno)
{
  if (os_errno == ENOENT || os_errno == ENOTDIR) return "NOT_FOUND";
  if (os_errno == EACCES || os_errno == EPERM || os_errno == EROFS) return "PERMISSION";
  if (os_errno == ENOSPC || os_errno == EDQUOT || os_errno == EFBIG) return "NO_SPACE";
  return "IO";
}

int file_failed(const app *a, const char *path, int os_errno)
{
  char message[8192];
  snprintf(message, sizeof(message), "%s: %s", path, strerror(os_errno));
  return failed_with(a, status_of_errno(os_errno), message);
}

int failed_with(const app *a, const char *status, const char *message)
{
  tell_error(a, status, message, 0, NULL);
  return 1;
}

int prints(const app *a)
{
  return a->json || !a->quiet;
}

int is_shown(const app *a)
{
  return !a->quiet && !a->json && isatty(2);
}

void end_progress(const app *a)
{
  if (is_shown(a)) fputs("\r\033[K", stderr);
}

/* The bytes of the UTF-8 character at the beginning of a text, and the character; 0 bytes for what is none. */
static int utf8(const unsigned char *text, unsigned long *character)
{
  static const unsigned long least[] = {0, 0, 0x80, 0x800, 0x10000};
  int i, length = *text < 0x80 ? 1 : *text < 0xc0 ? 0 : *text < 0xe0 ? 2 : *text < 0xf0 ? 3 : *text < 0xf8 ? 4 : 0;
  *character = length < 2 ? *text : *text & (0x7fUL >> length);
  for (i = 1; i < length; i++) {
    if ((text[i] & 0xc0) != 0x80) return 0;
    *character = *character << 6 | (text[i] & 0x3f);
  }
  if (length > 1 && (*character < least[length] || *character > 0x10ffff || (*character >> 11) == 0x1b)) return 0;
  return length;
}

/* What is no UTF-8 becomes U+FFFD; what a terminal would obey is escaped. */
void json_string(const char *text)
{
  const unsigned char *at = (const unsigned char *)text;
  putchar('"');
  while (*at) {
    unsigned long character;
    int length = utf8(at, &character);
    if (!length)
      printf("\\ufffd");
    else if (character == '"' || character == '\\')
      printf("\\%c", (int)character);
    else if (character < 0x20 || (character >= 0x7f && character < 0xa0))
      printf("\\u%04lx", character);
    else
      fwrite(at, 1, (size_t)length, stdout);
    at += length ? length : 1;
  }
  putchar('"');
}

void json_text(const char *key, const char *text)
{
  printf("\"%s\":", key);
  if (text)
    json_string(text);
  else
    fputs("null", stdout);
}

static void print_options(FILE *to, const option *table)
{
  char left[64];
  for (; table && table->name; table++) {
    snprintf(left, sizeof(left), "%s%s%s", table->name, table->value ? " " : "", table->value ? table->value : "");
    fprintf(to, "  %-26s %s\n", left, table->about);
  }
}

static void print_usage(FILE *to)
{
  char left[64];
  size_t i;
  fputs("usage: blimg [--store DIR] COMMAND [ARGUMENT]... [OPTION]...\n\ncommands:\n", to);
  for (i = 0; i < COMMANDS; i++) {
    int is_long = strlen(commands[i]->arguments) > 30;
    snprintf(left, sizeof(left), "%s %s", commands[i]->name, is_long ? "..." : commands[i]->arguments);
    fprintf(to, "  %-26s %s\n", left, commands[i]->about);
  }
  fputs("\noptions of all commands, which may stand anywhere:\n", to);
  print_options(to, common_options);
  fputs("\nSizes are bytes, or with K, M, G, T. Times are seconds, or with ms, s, m, h.\n"
        "'blimg help COMMAND' has the options of a command.\n",
        to);
}

static int help(const command *c)
{
  if (!c) return print_usage(stdout), 0;
  printf("usage: blimg %s %s%s\n\n%s\n", c->name, c->arguments, c->options ? " [OPTION]..." : "", c->about);
  if (c->options) {
    puts("\noptions:");
    print_options(stdout, c->options);
  }
  puts("\n'blimg help' has the options of all commands.");
  return 0;
}

static const command *find_command(const char *name)
{
  size_t i;
  for (i = 0; i < COMMANDS; i++)
    if (!strcmp(name, commands[i]->name)) return commands[i];
  return NULL;
}

static int unknown_command(const char *name)
{
  const char *names[COMMANDS + 1], *meant;
  size_t i;
  for (i = 0; i < COMMANDS; i++) names[i] = commands[i]->name;
  names[i] = NULL;
  meant = similar(name, names);
  if (meant) return wrong_usage(NULL, "unknown command '%s' (did you mean %s?)", name, meant);
  return wrong_usage(NULL, "unknown command '%s'", name);
}

/* Goes on with the bundle's own store. Its layers are read when a command needs them. */
static int open_bundle(app *a, const char *bundle)
{
  bl_import_options importing = BL_IMPORT_OPTIONS_INIT;
  bl_storage *in_bundle = NULL;
  bl_error *err = NULL;
  importing.flags = BL_IMPORT_NO_UNPACK;
  importing.name = "bundle";
  importing.cancel = on_interrupt;
  if (bl_bundle_open(a->storage, bundle, &importing, &in_bundle, NULL, &err)) return failed(a, err);
  bl_storage_close(a->storage);
  a->storage = in_bundle;
  return 0;
}

static void handle_signals(void)
{
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_handler = interrupted;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  /* A full disk or a file size limit is to be reported, not to kill. */
  action.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &action, NULL);
}

static int run(app *a, const command *c)
{
  bl_storage_options opening = BL_STORAGE_OPTIONS_INIT;
  const char *store = option_text(&a->given, "--store"), *bundle = option_text(&a->given, "--bundle");
  bl_error *err = NULL;
  int result;
  if (!store) store = getenv("BLIMG_STORE");
  if (!store || !*store) return wrong_usage(c->name, "no store: give --store DIR, or set BLIMG_STORE");
  opening.flags = option_flag(&a->given, "--read-only", BL_STORAGE_READ_ONLY) |
                  option_flag(&a->given, "--single-process", BL_STORAGE_SINGLE_PROCESS);
  if (bl_cancel_new(&on_interrupt, &err) || bl_storage_open(store, &opening, &a->storage, &err)) return failed(a, err);
  handle_signals();
  result = bundle ? open_bundle(a, bundle) : 0;
  if (!result) result = c->run(a);
  bl_storage_close(a->storage);
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  bl_cancel_free(on_interrupt);
  return result;
}

static int run_command(char **argv, const char *name)
{
  const command *c = name ? find_command(name) : NULL;
  int is_help = name && !c && !strcmp(name, "help"), result;
  app a;
  memset(&a, 0, sizeof(a));
  if (name && !c && !is_help) return unknown_command(name);
  result = options_parse(&a.given, c ? name : NULL, argv, c ? c->options : NULL, common_options);
  a.json = option_text(&a.given, "--json") != NULL;
  a.quiet = option_text(&a.given, "--quiet") != NULL;
  if (result)
    ;
  else if (option_text(&a.given, "--version"))
    printf("blimg %s\n", bl_version_string());
  else if (is_help && a.given.arg_count > 1)
    result = wrong_usage(NULL, "unexpected argument '%s'", a.given.args[1]);
  else if (is_help && a.given.arg_count)
    result = (c = find_command(a.given.args[0])) ? help(c) : unknown_command(a.given.args[0]);
  else if (is_help || option_text(&a.given, "--help") || option_text(&a.given, "-h"))
    result = help(c);
  else if (!c)
    result = wrong_usage(NULL, "no command");
  else if (!strstr(c->arguments, " | ") && check_arguments(&a.given, c->arguments))
    result = 2;
  else
    result = run(&a, c);
  options_free(&a.given);
  return result;
}

/*
 * The command, which is taken out of the line: the first that is no option and no option's value. NULL for none, and behind
 * an option that is unknown, of which nobody knows whether it has a value.
 */
static char *take_command(char **argv)
{
  char *name;
  for (; *argv && (*argv)[0] == '-'; argv++) {
    const option *known = find_option(common_options, *argv);
    if (!known && strcmp(*argv, "--")) return NULL;
    if (known && known->value && !strchr(*argv, '=') && argv[1]) argv++;
  }
  name = *argv;
  for (; *argv; argv++) argv[0] = argv[1];
  return name;
}

/* Files that are opened later are not to be taken for the standard ones. */
static void open_standard_files(void)
{
  int fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= 2) fd = open("/dev/null", O_RDWR);
  if (fd > 2) close(fd);
}

int main(int argc, char **argv)
{
  int result;
  open_standard_files();
  if (argc < 2) return print_usage(stderr), 2;
  result = run_command(argv + 1, take_command(argv + 1));
  /* Output that did not arrive is a failure too. */
  if (fflush(stdout) || ferror(stdout)) {
    fprintf(stderr, "blimg: IO: standard output: %s\n", strerror(errno));
    return result ? result : 1;
  }
  return result;
}
