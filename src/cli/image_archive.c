/* knarr image save, load, import. */
#include "cli/bundle.h"
#include "cli/image_made.h"
#include "cli/image_verbs.h"

#include "base/fd.h"
#include "base/fs.h"
#include "cli/hash.h"
#include "spec/ref.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { IMAGES_MAX = 1000 };

/* --- save --------------------------------------------------------------------------------------------------- */

struct bundles {
	struct bundle **b;
	size_t n;
};

static void bundles_close(struct bundles *all)
{
	for (size_t i = 0; i < all->n; i++)
		bundle_close(all->b[i]);
}

/* The names that were asked for; an image that was named by its ID has all of its own. */
static int name_it(struct cli *cli, struct bundle *b, const char *asked, struct err *e)
{
	struct ref ref;

	if (ref_parse(cli->a, asked, &ref, e) < 0)
		return 0;
	if (ref.tag && strv_has(b->names, ref_text(cli->a, &ref)))
		b->names = strv_append(cli->a, NULL, ref_text(cli->a, &ref));
	return 0;
}

static int read_all(struct cli *cli, char *const *words, struct bundles *all, struct err *e)
{
	all->b = arena_newn0(cli->a, struct bundle *, strv_len(words) + 1);
	for (; *words; words++) {
		struct bundle *b = arena_new0(cli->a, struct bundle);

		bundle_init(b, cli->a);
		all->b[all->n++] = b;
		if (node_read(cli, b, *words, e) < 0 || name_it(cli, b, *words, e) < 0)
			return -1;
	}
	return 0;
}

/* A file appears under its name when it is whole. */
static int save_to(struct cli *cli, const char *file, const struct bundles *all, struct err *e)
{
	const char *partial = arena_printf(cli->a, "%s.partial", file);
	auto_fd int fd = fd_create(AT_FDCWD, partial, O_WRONLY | O_CREAT | O_TRUNC, 0644, e);

	if (fd < 0)
		return -1;
	if (archive_write(fd, all->b, all->n, e) == 0) {
		if (rename(partial, file) == 0)
			return 0;
		(void)err_sys(e, errno, "make %s", file);
	}
	(void)unlink(partial);
	return -1;
}

int verb_image_save(struct cli *cli, char *const *argv, struct err *e)
{
	const char *file = NULL;
	const struct opt opts[] = {
		{ OPT_STR, 'o', "output", &file, "FILE", "Write it there instead of to stdout" },
		{ 0 },
	};
	AUTO(bundles_close) struct bundles all = { .n = 0 };
	struct stat st;
	char **words;
	int rc = cli_options(cli, "image save", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0])
		return err_set(e, ERR_INVALID, "knarr image save: which image?");
	if (!file && isatty(STDOUT_FILENO))
		return err_set(e, ERR_INVALID, "knarr image save: an archive on a terminal? Name a file with -o");
	if (strv_len(words) > IMAGES_MAX)
		return err_set(e, ERR_EXHAUSTED, "knarr image save: more than %d images", IMAGES_MAX);
	if (read_all(cli, words, &all, e) < 0)
		return -1;
	if (!file || (stat(file, &st) == 0 && !S_ISREG(st.st_mode))) {
		auto_fd int fd = file ? fd_open(AT_FDCWD, file, O_WRONLY, e) : STDOUT_FILENO;

		rc = fd < 0 ? -1 : archive_write(fd, all.b, all.n, e);
		if (!file)
			(void)fd_take(&fd);
		return rc;
	}
	return save_to(cli, file, &all, e);
}

/* --- load --------------------------------------------------------------------------------------------------- */

struct loading {
	struct cli *cli;
	const struct shelf_of_parts *parts;
	struct layout_wish wish;
	const char *name; /* NULL: the archive's own names */
};

static int load_one(struct loading *l, struct err *e)
{
	const char *id;
	char **names;
	auto_bundle b;

	bundle_init(&b, l->cli->a);
	if (layout_read(l->parts, &b, &l->wish, e) < 0)
		return -1;
	names = l->name ? strv_append(l->cli->a, NULL, l->name) : b.names;
	if (node_write(l->cli, &b, names, &id, e) < 0)
		return -1;
	if (!names)
		printf("%s\n", text_short_id(l->cli->a, id));
	for (; names && *names; names++)
		printf("%s is %s\n", *names, text_short_id(l->cli->a, id));
	return 0;
}

static int load_all(struct loading *l, struct bundle *source, const char *what, struct err *e)
{
	size_t n;

	if (parts_have(l->parts, "index.json") && parts_have(l->parts, "oci-layout"))
		l->wish.kind = LAYOUT_OCI;
	else if (parts_have(l->parts, "manifest.json"))
		l->wish.kind = LAYOUT_DOCKER;
	else
		return err_set(e, ERR_INVALID, "%s has neither an index.json nor a manifest.json: it is no image "
			       "(knarr image import takes a root file system)", what);
	if (layout_count(l->parts, source, l->wish.kind, &n, e) < 0)
		return err_in(e, "%s", what);
	if (n == 0)
		return err_set(e, ERR_NOT_FOUND, "%s has no image", what);
	if (l->name && n > 1)
		return err_set(e, ERR_INVALID, "%s has %zu images: they can't all be %s", what, n, l->name);
	for (; l->wish.number < n; l->wish.number++)
		if (load_one(l, e) < 0)
			return err_in(e, "%s", what);
	return 0;
}

static int open_source(struct bundle *b, const char *file, struct shelf_of_parts **out, struct err *e)
{
	struct stat st;
	int fd;

	if (stat(file, &st) == 0 && S_ISDIR(st.st_mode))
		return parts_in_folder(b, file, out, e);
	fd = streq(file, "-") ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : fd_open(AT_FDCWD, file, O_RDONLY, e);
	if (fd < 0)
		return streq(file, "-") ? err_sys(e, errno, "stdin") : -1;
	return parts_in_archive(b, bundle_own(b, fd), streq(file, "-") ? "stdin" : file, out, e);
}

int verb_image_load(struct cli *cli, char *const *argv, struct err *e)
{
	const char *file = "-", *name = NULL;
	const struct opt opts[] = {
		{ OPT_STR, 'i', "input", &file, "FILE", "The archive (or a layout's folder); default: stdin" },
		{ 0 },
	};
	AUTO(parts_forget_at) struct shelf_of_parts *parts = NULL;
	struct loading l = { .cli = cli, .wish = { .platform = platform_host() } };
	struct ref ref;
	auto_bundle b;
	char **words;
	int rc;

	bundle_init(&b, cli->a);
	rc = cli_options(cli, "image load", opts, 0, argv, &words, e);
	if (rc)
		return rc < 0 ? -1 : 0;
	if (words[0] && cli_one_word(words, "the name", &name, e) < 0)
		return -1;
	if (name && ref_parse(cli->a, name, &ref, e) < 0)
		return -1;
	if (streq(file, "-") && isatty(STDIN_FILENO))
		return err_set(e, ERR_INVALID, "knarr image load: an archive from a terminal? Name a file with -i");
	if (open_source(&b, file, &parts, e) < 0)
		return -1;
	l.parts = parts;
	l.name = name ? ref_text(cli->a, &ref) : NULL;
	return load_all(&l, &b, streq(file, "-") ? "stdin" : file, e);
}

/* --- import --------------------------------------------------------------------------------------------------- */

static int import_layer(struct bundle *b, const char *file, struct part *out, struct err *e)
{
	struct stat st;
	char *digest;
	int fd = streq(file, "-") ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : fd_open(AT_FDCWD, file, O_RDONLY, e), plain;

	if (fd < 0)
		return streq(file, "-") ? err_sys(e, errno, "stdin") : -1;
	if (archive_file(b, bundle_own(b, fd), &plain, e) < 0)
		return -1;
	if (fstat(plain, &st) < 0)
		return err_sys(e, errno, "read it");
	if (hash_file(b->a, plain, 0, st.st_size, &digest, e) < 0)
		return -1;
	*out = (struct part){ .digest = digest, .media_type = MADE_LAYER, .size = st.st_size, .fd = plain };
	return 0;
}

int verb_image_import(struct cli *cli, char *const *argv, struct err *e)
{
	struct made made = { .cli = cli };
	struct part layer;
	auto_bundle b;
	char **words;
	int rc;

	bundle_init(&b, cli->a);
	rc = made_options(&made, "image import", NULL, argv, &words, e);
	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0])
		return err_set(e, ERR_INVALID, "knarr image import: which file?");
	if (made_name(&made, words + 1, e) < 0)
		return -1;
	if (import_layer(&b, words[0], &layer, e) < 0)
		return err_in(e, "%s", words[0]);
	made.step = arena_printf(cli->a, "knarr image import %s", streq(words[0], "-") ? "-" : path_base(words[0]));
	return made_finish(&made, &b, &layer, e);
}
