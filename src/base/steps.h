/* Work that must be undone on failure, as data: a table of named steps with `act` and `undo`.
 *
 * steps_run() does them in order. Before each one it calls `mark`, which records durably how far the
 * work has got; when a step fails, that step's undo and those of all before it run backwards. After
 * a crash, recovery reads the record and calls steps_undo() (or goes on) with the same table. An
 * undo must therefore be harmless where its step was not done, or only half.
 *
 * An undo that fails does not stop the others; its error is given to `undo_failed` (logged, and the
 * record kept so that it is tried again). */
#ifndef KNARR_BASE_STEPS_H
#define KNARR_BASE_STEPS_H

#include "base/err.h"

struct step {
	const char *name;
	int (*act)(void *ctx, struct err *e);
	int (*undo)(void *ctx, struct err *e); /* NULL: nothing to undo */
};

struct steps {
	const char *name; /* of the table, for logs and fault tests */
	const struct step *step;
	size_t count;
	/* Records that step `i` is about to begin; i == count: all are done. May be NULL. */
	int (*mark)(void *ctx, size_t i, struct err *e);
	void (*undo_failed)(void *ctx, const struct step *step, const struct err *e);
};

#define STEPS(table, ...) { .name = #table, .step = table, .count = ARRAY_SIZE(table), __VA_ARGS__ }

/* Runs steps from `first` on. On failure everything from the failed step back to step 0 is undone,
 * and *e is the step's error with the step's name before it. */
int steps_run(const struct steps *s, size_t first, void *ctx, struct err *e);

/* Undoes step `last` and all before it. -1 with the first undo's error when any failed. */
int steps_undo(const struct steps *s, size_t last, void *ctx, struct err *e);

/* For fault tests: called before each step's act with the table's and the step's name, and before its
 * undo with "undo STEP"; an error makes it fail.
 * NULL (the default) does nothing. Set once, before any thread runs. */
extern int (*steps_fault)(const char *table, const char *step, struct err *e);

/* A moment that is in no table but that a fault test wants to reach, named as a step is. */
int steps_point(const char *table, const char *step, struct err *e);

/* Sets steps_fault as `wish` says: "TABLE.STEP:fail", "TABLE.STEP:kill" (the process, by SIGKILL) or
 * "TABLE.STEP:stop" (by SIGSTOP); "TABLE.undo STEP:…" names the undo. For tests of real programs (the
 * environment's KNARR_FAULT); NULL or "" sets nothing. The text must live as long as the program.
 * ERR_INVALID: not such a text. */
int steps_fault_set(const char *wish, struct err *e);

#endif
