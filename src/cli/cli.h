/* What the verbs of `knarr` share. A verb is one function in a file of its own and one row of the table in
 * main.c. It prints its result on stdout, returns an exit status, or -1 with an error that main
 * prints as one sentence. */
#ifndef KNARR_CLI_CLI_H
#define KNARR_CLI_CLI_H

#include "base/buf.h"
#include "base/json.h"
#include "base/opt.h"
#include "cli/client.h"

struct cli {
	struct arena *a;       /* the command's, to its end */
	struct call *call;     /* SIGINT ends the program as ever, unless a verb takes it */
	struct client *client; /* NULL until cli_connect() */
	struct client_settings settings;
};

enum {
	CLI_FAILED = 125, CLI_NOT_EXECUTABLE = 126, CLI_NOT_FOUND = 127, /* docker's and podman's */
	CLI_NO_READER = 141, /* a shell's for SIGPIPE */
};
/* Prints the error as one sentence; returns the status. For a failure that is not the verb's last. */
int cli_fail(const struct err *e, int status);
/* docker's statuses for a command that could not be started. */
int cli_start_status(const struct err *e);

struct verb {
	const char *name;
	const char *args;   /* "IMAGE [COMMAND [ARG…]]" */
	const char *help;   /* one sentence */
	int (*run)(struct cli *cli, char *const *argv, struct err *e);
	const char *alias;
};

extern const struct verb cli_verbs[]; /* ends with a name of NULL */
/* Runs one: its help and its complaints are then about it. */
int cli_run_verb(struct cli *cli, const struct verb *v, char *const *argv, struct err *e);

int verb_image(struct cli *cli, char *const *argv, struct err *e);
int verb_pull(struct cli *cli, char *const *argv, struct err *e);
int verb_images(struct cli *cli, char *const *argv, struct err *e);
int verb_rmi(struct cli *cli, char *const *argv, struct err *e);
int verb_tag(struct cli *cli, char *const *argv, struct err *e);
int verb_run(struct cli *cli, char *const *argv, struct err *e);
int verb_ps(struct cli *cli, char *const *argv, struct err *e);
int verb_logs(struct cli *cli, char *const *argv, struct err *e);
int verb_exec(struct cli *cli, char *const *argv, struct err *e);
int verb_attach(struct cli *cli, char *const *argv, struct err *e);
int verb_port_forward(struct cli *cli, char *const *argv, struct err *e);
int verb_stop(struct cli *cli, char *const *argv, struct err *e);
int verb_rm(struct cli *cli, char *const *argv, struct err *e);
int verb_inspect(struct cli *cli, char *const *argv, struct err *e);
int verb_stats(struct cli *cli, char *const *argv, struct err *e);
int verb_info(struct cli *cli, char *const *argv, struct err *e);
int verb_completion(struct cli *cli, char *const *argv, struct err *e);
int verb_version(struct cli *cli, char *const *argv, struct err *e);

/* Connects once. */
int cli_connect(struct cli *cli, struct err *e);
void cli_disconnect(struct cli *cli);

/* Parses a verb's options; "--help" prints its page and gives 1. */
int cli_options(struct cli *cli, const char *verb, const struct opt *opts, int flags, char *const *argv,
		char ***words, struct err *e);

/* Exactly one word, or ERR_INVALID that says what it should be. */
int cli_one_word(char *const *words, const char *what, const char **out, struct err *e);

/* No word, or ERR_INVALID. */
int cli_no_words(char *const *words, struct err *e);

/* --- names ---------------------------------------------------------------------------------------- */

#define USER_NAMESPACE "user" /* of the pods of knarr run */
#define LABEL_NAME "io.knarr.name"
#define LABEL_AUTO_REMOVE "io.knarr.auto-remove" /* pod/pod.h has it too: what a reboot ended is removed by knarrd */

/* Containers of the socket, with the pods they are in; and the pods of the user's without a container, which
 * a killed `knarr run` left: their id is "". */
struct found {
	char *id, *pod_id, *name, *image, *log_path;
	int state;          /* Runtime__V1__ContainerState */
	int64_t created_wall_ns;
	struct json_map labels;
};
int cli_containers(struct cli *cli, struct found **out, size_t *n, struct err *e);
bool cli_is_unfinished(const struct found *f);
/* By name, ID or unambiguous ID prefix. ERR_NOT_FOUND, ERR_INVALID (ambiguous) name it; ERR_STATE: unfinished. */
int cli_find(struct cli *cli, const char *name, struct found *out, struct err *e);
/* The same, unfinished ones too, without log_path. */
int cli_find_any(struct cli *cli, const char *name, struct found *out, struct err *e);

/* --- printing --------------------------------------------------------------------------------------- */

/* Rows of texts in columns as wide as they need; the first row is the heading. */
struct table;
struct table *table_new(struct arena *a, size_t columns);
void table_row(struct table *t, ...); /* `columns` texts */
void table_print(const struct table *t);

char *text_size(struct arena *a, uint64_t bytes);        /* "1.3MB" */
char *text_ago(struct arena *a, int64_t wall_ns);        /* "3 minutes ago" */
const char *text_short_id(struct arena *a, const char *id); /* 12 digits, without "sha256:" */

/* A message as JSON in its proto names, lines and indents for people. */
int message_print(struct cli *cli, const ProtobufCMessage *m, struct err *e);

/* --- logs -------------------------------------------------------------------------------------------- */

/* Reads a CRI log and copies what was written to stdout and stderr, as it was written. Where the file is
 * rotated, it reads the old one to its end and goes on with the new. */
struct log_reader {
	int fd;
	int watch_fd;        /* inotify; -1: there is none to be had, so it looks every LOG_LOOK_MS */
	const char *path;
	struct buf pending;  /* a line that has not all come */
	bool timestamps;
};
enum { LOG_LOOK_MS = 20 };
int log_reader_open(struct log_reader *r, const char *path, struct err *e);
/* Before the first copy, where more is awaited. */
void log_reader_watch(struct log_reader *r);
void log_reader_close(struct log_reader *r);
/* Copies what is there now, some of it at least: 1 if there may be more. */
int log_reader_copy(struct log_reader *r, struct err *e);
/* Copies all that is there. */
int log_reader_finish(struct log_reader *r, struct err *e);
/* For io_poll(): what to wait for, and how long at most, before the next copy. */
struct pollfd log_reader_poll(const struct log_reader *r);
int log_reader_poll_ms(const struct log_reader *r);

/* --- waiting --------------------------------------------------------------------------------------------- */

/* Waits for a container's exit; no worker of knarrd is held for that where knarr-pod can tell. */
struct waiter;
struct waited {
	int exit_code;
	const char *reason, *message; /* valid until waiter_end() */
};
int waiter_start(struct cli *cli, const char *container_id, struct waiter **out, struct err *e);
int waiter_fd(const struct waiter *w); /* readable once it has an answer */
/* Blocks until it has. */
int waiter_result(struct waiter *w, struct call *c, struct waited *out, struct err *e);
void waiter_end(struct waiter *w); /* cancels it where it still waits; NULL is fine */

/* Pulls with a progress bar on a terminal, lines elsewhere. *id in the arena. */
int image_pull_shown(struct cli *cli, const char *reference, const char **id, struct err *e);

/* Stops and removes a pod with all that is in it, and its logs. Gone already is fine. */
int pod_remove(struct cli *cli, const char *pod_id, struct err *e);

#endif
