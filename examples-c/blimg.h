/* What the files of blimg share. */
#ifndef BLIMG_H
#define BLIMG_H

#include "boxlite_images.h"
#include "options.h"

typedef struct {
  bl_storage *storage;
  int json;
  int quiet;
  /* What the command was given. */
  options given;
} app;

typedef struct {
  const char *name;
  /* "IMAGE... OUT [TAG]"; with " | " between forms, the command counts by itself. */
  const char *arguments;
  const char *about;
  /* NULL for none. */
  const option *options;
  /* Gives the exit status: 0 done, 1 failed or "no", 2 wrong usage. */
  int (*run)(app *);
} command;

extern const command put_command, extract_command, entries_command, has_command, verify_command, cat_command, path_command,
  load_layout_command, tag_command, ls_command, inspect_command, rm_command, pull_command, import_command, export_command,
  rootfs_command, disk_command, mount_options_command, config_command, gc_command, check_command, df_command, lease_command,
  commit_command, squash_command, edit_command;

/* Triggered by SIGINT and SIGTERM. */
extern bl_cancel *on_interrupt;

/* Says what went wrong, and takes the error over; gives the exit status. */
int failed(const app *a, bl_error *err);
/* The same of a file that blimg itself opened or read. */
int file_failed(const app *a, const char *path, int os_errno);
/* What the library calls an error of the operating system: "NOT_FOUND". */
const char *status_of_errno(int os_errno);
/* The same of anything else. */
int failed_with(const app *a, const char *status, const char *message);

/* Whether results are printed. */
int prints(const app *a);
/* Whether progress is shown: on a terminal, where nobody asked for silence. */
int is_shown(const app *a);
/* Takes away the line of it. */
void end_progress(const app *a);

/* What --form says an extracted layer is to be, and how usage says it. */
bl_tree_options given_tree(app *a);
#define FORMS "markers (the default), overlay, user-overlay, override-stat, erofs"

/* Writes a string to stdout as JSON. */
void json_string(const char *text);
/* Writes `"key":"text"`, or null for NULL. */
void json_text(const char *key, const char *text);

/* What an image of the store is called, to be shown; the name itself where it cannot be opened. To be freed. */
char *familiar_name(const app *a, const char *name);

void print_image(const app *a, bl_image *image);

#endif
