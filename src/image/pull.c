#include "base/log.h"
#include "base/mem.h"
#include "image/pull_run.h"
#include "image/registries.h"

#include <unistd.h>

/* A pull under way, and those who wait for it. Freed by the last of them, the thread included. */
struct flight {
	struct list link;
	struct pulls *pulls;
	struct arena arena;        /* the texts */
	const char *key;
	struct ref ref;
	struct image_auth auth;
	struct call call;          /* the thread's */
	/* Guarded by pulls.lock: */
	unsigned callers;
	bool done, left;           /* left: cancelled since nobody waits; not to be joined */
	int result;
	char *id;
	struct err err;
	struct image_progress progress;
	unsigned progress_count;
};

struct pulls {
	struct images *im;
	struct lock lock;          /* guards all below */
	struct cond changed;
	struct list flights;
	unsigned running;
	bool closing;
};

static void flight_free(struct flight *f)
{
	struct arena arena = f->arena;

	call_end(&f->call);
	mem_free(f);
	arena_free(&arena);
}

static void on_progress(void *ctx, const struct image_progress *p)
{
	struct flight *f = ctx;

	LOCKED(&f->pulls->lock);
	f->progress = *p;
	f->progress_count++;
	cond_broadcast(&f->pulls->changed);
}

static void *run_flight(void *ctx)
{
	struct flight *f = ctx;
	struct pulls *ps = f->pulls;
	struct pull_work w = { .im = ps->im, .call = &f->call, .ref = &f->ref, .auth = &f->auth,
			       .progress = on_progress, .progress_ctx = f };
	struct err e = { 0 };
	char *id = NULL;
	enum images_room room;
	bool last, failed;
	int r = pull_run(&w, &id, &e);

	failed = r < 0;
	lock_acquire(&ps->lock);
	f->result = r;
	f->err = e;
	f->id = id;
	f->done = true;
	list_del(&f->link);
	last = f->callers == 0;
	if (last)
		flight_free(f);
	cond_broadcast(&ps->changed);
	lock_release(&ps->lock);
	/* Nobody waits for this. */
	room = failed && e.kind == ERR_EXHAUSTED ? IMAGES_NO_ROOM : IMAGES_ROOM;
	if (failed && images_tidy(ps->im, room, &e) < 0)
		log_warn("data of a failed pull stays for now: %s", e.msg);
	/* pulls_close() may go on once this is 0: nothing of ps is touched after the release. */
	LOCKED(&ps->lock);
	ps->running--;
	cond_broadcast(&ps->changed);
	return NULL;
}

/* Reference and credentials; in memory only, as long as the pull. */
static const char *key_of(struct arena *a, const struct ref *ref, const struct image_auth *k)
{
	const char *parts[] = { k->username, k->password, k->auth, k->server_address, k->identity_token,
				k->registry_token };
	const char *key = ref_text(a, ref);

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		key = arena_printf(a, "%s\n%zu:%s", key, parts[i] ? strlen(parts[i]) : 0,
				   parts[i] ? parts[i] : "");
	return key;
}

static struct flight *find_locked(struct pulls *ps, const char *key)
{
	lock_assert_held(&ps->lock);
	list_for_each(f, &ps->flights, struct flight, link) {
		if (!f->left && streq(f->key, key))
			return f;
	}
	return NULL;
}

static struct ref ref_copy(struct arena *a, const struct ref *r)
{
	return (struct ref){ arena_strdup(a, r->domain), arena_strdup(a, r->path), arena_strdup(a, r->tag),
			     arena_strdup(a, r->digest) };
}

static struct flight *flight_new(struct pulls *ps, const char *key, const struct ref *ref,
				 const struct image_auth *k)
{
	struct flight *f = mem_new0(struct flight);

	f->pulls = ps;
	f->key = arena_strdup(&f->arena, key);
	f->ref = ref_copy(&f->arena, ref);
	f->auth = (struct image_auth){
		arena_strdup(&f->arena, k->username), arena_strdup(&f->arena, k->password),
		arena_strdup(&f->arena, k->auth), arena_strdup(&f->arena, k->server_address),
		arena_strdup(&f->arena, k->identity_token), arena_strdup(&f->arena, k->registry_token),
	};
	call_begin(&f->call, 0);
	list_init(&f->link);
	return f;
}

static int join_locked(struct pulls *ps, const char *key, const struct ref *ref, const struct image_auth *k,
		       struct flight **out, struct err *e)
{
	struct flight *f = find_locked(ps, key);
	pthread_t thread;

	if (ps->closing)
		return err_set(e, ERR_UNAVAILABLE, "knarrd is stopping");
	if (!f) {
		f = flight_new(ps, key, ref, k);
		if (thread_start(&thread, "pull", run_flight, f, e) < 0) {
			flight_free(f);
			return -1;
		}
		(void)pthread_detach(thread);
		list_add(&ps->flights, &f->link);
		ps->running++;
	}
	f->callers++;
	*out = f;
	return 0;
}

/* Waits for the end, telling the caller of progress meanwhile. */
static int wait_locked(struct pulls *ps, struct flight *f, struct call *c, const struct image_pull_request *r,
		       struct err *e)
{
	unsigned told = 0;

	while (!f->done) {
		struct image_progress progress = f->progress;

		if (r->progress && f->progress_count != told) {
			told = f->progress_count;
			lock_release(&ps->lock);
			r->progress(r->progress_ctx, &progress);
			lock_acquire(&ps->lock);
			continue;
		}
		if (cond_wait(c, &ps->changed, &ps->lock, e) < 0)
			return err_in(e, "pull %s: %s", r->reference,
				      progress.waits_for ? progress.waits_for : "starting");
	}
	if (f->result == 0)
		return 0;
	*e = f->err;
	return -1;
}

static void leave_locked(struct flight *f)
{
	if (--f->callers > 0)
		return;
	if (f->done) {
		flight_free(f);
		return;
	}
	f->left = true;
	call_cancel(&f->call);
}

static int pull_ref(struct images *im, struct call *c, const struct image_pull_request *r, const struct ref *ref,
		    const char **id, struct err *e)
{
	static const struct image_auth anonymous;
	const struct image_auth *k = r->auth ? r->auth : &anonymous;
	struct pulls *ps = im->pulls;
	struct flight *f = NULL;
	int result;

	LOCKED(&ps->lock);
	if (join_locked(ps, key_of(&c->arena, ref, k), ref, k, &f, e) < 0)
		return -1;
	result = wait_locked(ps, f, c, r, e);
	if (result == 0)
		*id = arena_strdup(&c->arena, f->id);
	leave_locked(f);
	return result;
}

int image_pull(struct images *im, struct call *c, const struct image_pull_request *r, const char **id, struct err *e)
{
	const char *others = "";
	struct ref *refs;
	size_t n;

	if (registries_names(&c->arena, im->settings.registries_conf, r->reference ? r->reference : "", &refs, &n, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (pull_ref(im, c, r, &refs[i], id, e) == 0)
			return 0;
		if (call_check(c, &(struct err){ 0 }) < 0)
			return -1;
		if (i + 1 < n)
			others = arena_printf(&c->arena, "%s; %.300s", others, e->msg);
	}
	return *others ? err_in(e, "%s may be one of %zu names%s", r->reference, n, others) : -1;
}

/* No flight of its own: two that load the same share its blobs and layers all the same. */
int image_load(struct images *im, struct call *c, const struct image_load_request *r, const char **id, struct err *e)
{
	static const struct image_auth nobody;
	struct pull_work w = { .im = im, .call = c, .load = r, .auth = &nobody, .progress = r->progress,
			       .progress_ctx = r->progress_ctx };
	struct err tidy;
	struct ref ref;
	char *made;

	if (r->nparts == 0)
		return err_set(e, ERR_INVALID, "an image of no blobs");
	for (char *const *n = r->names; n && *n; n++)
		if (ref_parse(&c->arena, *n, &ref, e) < 0)
			return -1;
	if (pull_run(&w, &made, e) == 0) {
		*id = made;
		return 0;
	}
	if (images_tidy(im, e->kind == ERR_EXHAUSTED ? IMAGES_NO_ROOM : IMAGES_ROOM, &tidy) < 0)
		log_warn("data of a failed load stays for now: %s", tidy.msg);
	return -1;
}

int pulls_open(struct images *im, struct err *e)
{
	struct pulls *ps = mem_new0(struct pulls);

	(void)e;
	ps->im = im;
	lock_init(&ps->lock);
	cond_init(&ps->changed);
	list_init(&ps->flights);
	im->pulls = ps;
	return 0;
}

void pulls_close(struct images *im)
{
	struct pulls *ps = im->pulls;
	struct err e;

	if (!ps)
		return;
	lock_acquire(&ps->lock);
	ps->closing = true;
	list_for_each(f, &ps->flights, struct flight, link)
		call_cancel(&f->call);
	while (ps->running > 0)
		(void)cond_wait(NULL, &ps->changed, &ps->lock, &e);
	lock_release(&ps->lock);
	cond_destroy(&ps->changed);
	lock_destroy(&ps->lock);
	mem_free(ps);
	im->pulls = NULL;
}
