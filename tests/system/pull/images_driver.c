/* Pulls references through image_pull() as knarrd does, all at once, each in a thread of its own, and
 * prints a line for each ("ok ID", "error KIND: TEXT"), then a line for each image that there is. */
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/thread.h"
#include "image/image.h"

#include <fcntl.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>

struct one {
	pthread_t thread;
	struct images *images;
	struct image_pull_request request;
	int64_t timeout_ns;
	unsigned progress;
	uint64_t bytes;
	char text[2000];
};

static void on_progress(void *ctx, const struct image_progress *p)
{
	struct one *o = ctx;

	o->progress++;
	o->bytes = p->bytes;
}

static void *pull(void *ctx)
{
	struct one *o = ctx;
	struct err e = { 0 };
	const char *id;
	auto_call c;

	call_begin(&c, o->timeout_ns ? clock_mono_ns() + o->timeout_ns : 0);
	if (image_pull(o->images, &c, &o->request, &id, &e) < 0)
		(void)snprintf(o->text, sizeof(o->text), "error %s: %s", err_kind_name(e.kind), e.msg);
	else
		(void)snprintf(o->text, sizeof(o->text), "ok %s", id);
	return NULL;
}

static int list(struct images *im, struct arena *a, struct err *e)
{
	struct image *image;
	size_t n;

	if (image_list(im, a, &image, &n, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		(void)printf("image %s", image[i].id);
		for (char **t = image[i].tags; t && *t; t++)
			(void)printf(" %s", *t);
		for (char **d = image[i].digests; d && *d; d++)
			(void)printf(" %s", *d);
		(void)puts("");
	}
	return 0;
}

static int run(struct arena *a, char **argv, struct err *e)
{
	struct image_settings s = { .pull_idle_ns = 5 * NS_PER_S };
	struct image_auth auth = { 0 };
	const char *root = NULL, *remove = NULL;
	int64_t times = 1, timeout_ns = 0;
	struct catalog *catalog;
	struct images *images;
	struct one *all;
	char **words;
	size_t n = 0;
	const struct opt opts[] = {
		{ OPT_STR, 0, "root", &root, "DIR", "state" },
		{ OPT_STR, 0, "libexec", &s.libexec, "DIR", "programs" },
		{ OPT_STR, 0, "hosts", &s.hosts_dir, "DIR", "hosts folders" },
		{ OPT_STR, 0, "user", &auth.username, "NAME", "user" },
		{ OPT_STR, 0, "password", &auth.password, "TEXT", "password" },
		{ OPT_STR, 0, "remove", &remove, "NAME", "image to remove afterwards" },
		{ OPT_I64, 0, "times", &times, "N", "pull each N times at once" },
		{ OPT_DURATION, 0, "timeout", &timeout_ns, "TIME", "deadline of each pull" },
		{ OPT_DURATION, 0, "idle", &s.pull_idle_ns, "TIME", "idle time" },
		{ 0 },
	};

	if (opts_parse(a, opts, 0, argv, &words, e) < 0)
		return -1;
	s.root = root;
	s.run = root;
	if (catalog_open(path_join(a, root, "catalog.db"), &catalog, e) < 0 ||
	    images_open(&s, catalog, &images, e) < 0)
		return -1;
	all = arena_newn0(a, struct one, strv_len(words) * (size_t)times);
	for (char **w = words; *w; w++) {
		for (int64_t i = 0; i < times; i++, n++) {
			all[n].images = images;
			all[n].timeout_ns = timeout_ns;
			all[n].request = (struct image_pull_request){ *w, &auth, on_progress, &all[n] };
			if (thread_start(&all[n].thread, "pull", pull, &all[n], e) < 0)
				return -1;
		}
	}
	for (size_t i = 0; i < n; i++) {
		(void)pthread_join(all[i].thread, NULL);
		(void)puts(all[i].text);
	}
	if (remove) {
		auto_call c;

		call_begin(&c, 0);
		if (image_remove(images, &c, remove, e) < 0)
			return -1;
	}
	if (list(images, a, e) < 0)
		return -1;
	images_close(images);
	catalog_close(catalog);
	return 0;
}

int main(int argc, char **argv)
{
	auto_arena a = { 0 };
	struct err e = { 0 };

	(void)argc;
	(void)signal(SIGPIPE, SIG_IGN);
	if (run(&a, argv, &e) == 0)
		return 0;
	(void)fprintf(stderr, "%s\n", e.msg);
	return 1;
}
