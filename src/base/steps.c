#include "base/steps.h"

#include <stdio.h>

int (*steps_fault)(const char *table, const char *step, struct err *e);

static int step_act(const struct steps *s, size_t i, void *ctx, struct err *e)
{
	const struct step *step = &s->step[i];

	if (s->mark && s->mark(ctx, i, e) < 0)
		return -1;
	if (steps_fault && steps_fault(s->name, step->name, e) < 0)
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
