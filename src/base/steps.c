#include "base/steps.h"

#include "base/str.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int (*steps_fault)(const char *table, const char *step, struct err *e);

/* --- faults that a test wishes of a real program ------------------------------------------------------- */

static struct {
	struct str at; /* "TABLE.STEP" */
	int signal;    /* 0: the step fails */
} wished;

static int fault_wished(const char *table, const char *step, struct err *e)
{
	char name[160];

	(void)snprintf(name, sizeof(name), "%s.%s", table, step);
	if (!str_eqz(wished.at, name))
		return 0;
	if (!wished.signal)
		return err_set(e, ERR_SYSTEM, "made to fail");
	/* To this thread: it must not run on while another one takes the signal. Stopped and continued, it goes on. */
	(void)tgkill(getpid(), gettid(), wished.signal);
	return 0;
}

int steps_fault_set(const char *wish, struct err *e)
{
	static const struct { const char *name; int signal; } acts[] = {
		{ "fail", 0 }, { "kill", SIGKILL }, { "stop", SIGSTOP },
	};
	struct str rest = str_of(wish ? wish : "");

	if (!rest.len)
		return 0;
	wished.at = str_cut(&rest, ':');
	for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
		if (!str_eqz(rest, acts[i].name))
			continue;
		wished.signal = acts[i].signal;
		steps_fault = fault_wished;
		return 0;
	}
	return err_set(e, ERR_INVALID, "fault \"%s\" is not TABLE.STEP:fail, :kill or :stop", wish);
}

int steps_point(const char *table, const char *step, struct err *e)
{
	return steps_fault ? steps_fault(table, step, e) : 0;
}

/* --- steps --------------------------------------------------------------------------------------------- */

static int step_act(const struct steps *s, size_t i, void *ctx, struct err *e)
{
	const struct step *step = &s->step[i];

	if (s->mark && s->mark(ctx, i, e) < 0)
		return -1;
	if (steps_point(s->name, step->name, e) < 0)
		return -1;
	return step->act(ctx, e);
}

static int step_undo(const struct steps *s, const struct step *step, void *ctx, struct err *e)
{
	char name[80];

	if (steps_fault) {
		(void)snprintf(name, sizeof(name), "undo %s", step->name);
		if (steps_fault(s->name, name, e) < 0)
			return -1;
	}
	return step->undo(ctx, e);
}

int steps_run(const struct steps *s, size_t first, void *ctx, struct err *e)
{
	for (size_t i = first; i < s->count; i++) {
		struct err ignored;

		if (step_act(s, i, ctx, e) == 0)
			continue;
		err_in(e, "%s", s->step[i].name);
		(void)steps_undo(s, i, ctx, &ignored); /* told to undo_failed one by one */
		return -1;
	}
	if (s->mark && s->mark(ctx, s->count, e) < 0)
		return err_in(e, "record the end");
	return 0;
}

int steps_undo(const struct steps *s, size_t last, void *ctx, struct err *e)
{
	int rc = 0;

	for (size_t i = MIN(last + 1, s->count); i-- > 0;) {
		struct err mine;

		if (!s->step[i].undo || step_undo(s, &s->step[i], ctx, &mine) == 0)
			continue;
		err_in(&mine, "undo %s", s->step[i].name);
		if (s->undo_failed)
			s->undo_failed(ctx, &s->step[i], &mine);
		if (rc == 0)
			*e = mine;
		rc = -1;
	}
	return rc;
}
