#include "test.h"

#include "base/map.h"
#include "base/steps.h"
#include "base/str.h"

#include <stdio.h>

struct work {
	char did[64];
	int fail_at, marked;
	bool undo_fails;
};

static int act(struct work *w, char name, struct err *e)
{
	size_t n = strlen(w->did);

	if (w->fail_at == name)
		return err_set(e, ERR_STATE, "no luck");
	w->did[n] = name;
	return 0;
}

static int a_act(void *w, struct err *e) { return act(w, 'a', e); }
static int b_act(void *w, struct err *e) { return act(w, 'b', e); }
static int c_act(void *w, struct err *e) { return act(w, 'c', e); }
static int a_undo(void *w, struct err *e) { return act(w, 'A', e); }
static int c_undo(void *w, struct err *e) { return act(w, 'C', e); }

static int mark(void *ctx, size_t i, UNUSED struct err *e)
{
	((struct work *)ctx)->marked = (int)i;
	return 0;
}

static const struct step work_steps[] = { { "a", a_act, a_undo }, { "b", b_act, NULL }, { "c", c_act, c_undo } };
static const struct steps work = STEPS(work_steps, .mark = mark);

TEST(all_steps_are_done_in_order_and_marked)
{
	struct work w = { 0 };
	struct err e;

	assert_ok(steps_run(&work, 0, &w, &e), e);
	assert_string_equal(w.did, "abc");
	assert_int_equal(w.marked, 3);
}

TEST(a_failing_step_and_all_before_it_are_undone)
{
	struct work w = { .fail_at = 'c' };
	struct err e;

	assert_err(steps_run(&work, 0, &w, &e), e, ERR_STATE, "c: no luck");
	assert_string_equal(w.did, "abCA");
}

TEST(recovery_undoes_from_where_the_record_says)
{
	struct work w = { 0 };
	struct err e;

	assert_ok(steps_undo(&work, 1, &w, &e), e);
	assert_string_equal(w.did, "A");
}

TEST(an_undo_that_fails_does_not_stop_the_others)
{
	struct work w = { .fail_at = 'C' };
	struct err e;

	assert_err(steps_undo(&work, 2, &w, &e), e, ERR_STATE, "undo c");
	assert_string_equal(w.did, "A");
}

static int fault(const char *table, const char *step, struct err *e)
{
	return streq(table, "work_steps") && streq(step, "b") ? err_set(e, ERR_SYSTEM, "injected") : 0;
}

TEST(a_fault_can_be_put_before_any_step)
{
	struct work w = { 0 };
	struct err e;

	steps_fault = fault;
	assert_err(steps_run(&work, 0, &w, &e), e, ERR_SYSTEM, "b: injected");
	steps_fault = NULL;
	assert_string_equal(w.did, "aA");
}

TEST(a_map_keeps_what_is_put_in_through_growth_and_removal)
{
	struct map m = { 0 };
	static char keys[2000][8];
	size_t seen = 0;

	for (int i = 0; i < 2000; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%d", i);
		assert_true(map_add(&m, keys[i], keys[i]));
	}
	assert_false(map_add(&m, "k7", keys[7]));
	for (int i = 0; i < 2000; i += 3)
		assert_ptr_equal(map_remove(&m, keys[i]), keys[i]);
	for (int i = 0; i < 2000; i++)
		assert_ptr_equal(map_get(&m, keys[i]), i % 3 ? keys[i] : NULL);
	for (size_t i = 0; map_next(&m, &i);)
		seen++;
	assert_int_equal(seen, m.count);
	map_free(&m);
}
