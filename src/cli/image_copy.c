/* knarr image copy and push: from one transport to another. */
#include "cli/bundle.h"
#include "cli/image_verbs.h"
#include "cli/registry_image.h"

#include "base/fd.h"
#include "base/fs.h"
#include "spec/ref.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum transport { NODE, DOCKER, OCI, OCI_ARCHIVE, DOCKER_ARCHIVE, DIR };

struct place {
	enum transport transport;
	const char *path, *name; /* NODE and DOCKER: the name alone; DIR: the path alone; name NULL: none */
};

/* --- which place ------------------------------------------------------------------------------------------------ */

static int place_parse(struct arena *a, const char *text, struct place *out, struct err *e)
{
	static const struct {
		const char *prefix;
		enum transport transport;
	} known[] = { { "knarr:", NODE }, { "docker://", DOCKER }, { "oci:", OCI }, { "oci-archive:", OCI_ARCHIVE },
		      { "docker-archive:", DOCKER_ARCHIVE }, { "dir:", DIR } };
	struct place p = { .transport = NODE, .name = text };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		const char *rest = text + strlen(known[i].prefix), *colon;

		if (!starts_with(text, known[i].prefix))
			continue;
		p = (struct place){ known[i].transport, NULL, rest };
		if (p.transport == NODE || p.transport == DOCKER)
			break;
		colon = p.transport == DIR ? NULL : strchr(rest, ':');
		p.path = colon ? arena_strndup(a, rest, (size_t)(colon - rest)) : rest;
		p.name = colon && colon[1] ? colon + 1 : NULL;
	}
	if (str_is_empty(p.path ? p.path : p.name))
		return err_set(e, ERR_INVALID, "\"%s\" names no image: docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], "
			       "docker-archive:FILE[:NAME], dir:DIR or an image of this machine", text);
	*out = p;
	return 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------- */

static int read_layout(struct bundle *b, const struct place *p, const struct platform *platform, struct err *e)
{
	AUTO(parts_forget_at) struct shelf_of_parts *parts = NULL;
	struct layout_wish wish = { .kind = p->transport == DOCKER_ARCHIVE ? LAYOUT_DOCKER : LAYOUT_OCI, .name = p->name,
				    .platform = platform };
	size_t n;
	int fd;

	if (p->transport == OCI) {
		if (parts_in_folder(b, p->path, &parts, e) < 0)
			return -1;
	} else {
		fd = fd_open(AT_FDCWD, p->path, O_RDONLY, e);
		if (fd < 0 || parts_in_archive(b, bundle_own(b, fd), p->path, &parts, e) < 0)
			return -1;
	}
	if (layout_count(parts, b, wish.kind, &n, e) < 0)
		return err_in(e, "%s", p->path);
	if (!p->name && n != 1)
		return err_set(e, ERR_INVALID, "%s has %zu images: say which, as %s:NAME", p->path, n, p->path);
	return layout_read(parts, b, &wish, e) < 0 ? err_in(e, "%s", p->path) : 0;
}

static int read_dir(struct bundle *b, const struct place *p, const struct platform *platform, struct err *e)
{
	struct shelf_of_parts *parts;

	return parts_in_folder(b, p->path, &parts, e) < 0 ? -1 : dir_read(parts, b, platform, e);
}

static int place_read(struct cli *cli, struct bundle *b, const struct place *p, const struct registry_login *login,
		      const struct platform *platform, struct err *e)
{
	switch (p->transport) {
	case NODE:
		return node_read(cli, b, p->name, e);
	case DOCKER:
		return registry_read(cli, b, p->name, login, platform, e);
	case DIR:
		return read_dir(b, p, platform, e);
	default:
		return read_layout(b, p, platform, e);
	}
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

/* An archive is new or replaced whole. Its name is a reference, or (OCI) any word. */
static int write_archive(struct cli *cli, struct bundle *b, const struct place *p, struct err *e)
{
	const char *partial = arena_printf(cli->a, "%s.partial", p->path);
	auto_fd int fd = -1;
	struct ref ref;

	if (p->name) {
		bool whole = strpbrk(p->name, "/:") || p->transport == DOCKER_ARCHIVE;

		if (whole && ref_parse(cli->a, p->name, &ref, e) < 0)
			return -1;
		b->names = whole ? strv_append(cli->a, NULL, ref_text(cli->a, &ref)) : NULL;
		b->tag = (char *)p->name;
	}
	fd = fd_create(AT_FDCWD, partial, O_WRONLY | O_CREAT | O_TRUNC, 0644, e);
	if (fd < 0)
		return -1;
	if (archive_write(fd, (struct bundle *[]){ b }, 1, e) == 0) {
		if (rename(partial, p->path) == 0)
			return 0;
		(void)err_sys(e, errno, "make %s", p->path);
	}
	(void)unlink(partial);
	return -1;
}

static int write_node(struct cli *cli, struct bundle *b, const struct place *p, struct err *e)
{
	const char *id;
	struct ref ref;

	if (ref_parse(cli->a, p->name, &ref, e) < 0)
		return -1;
	return node_write(cli, b, strv_append(cli->a, NULL, ref_text(cli->a, &ref)), &id, e);
}

static int place_write(struct cli *cli, struct bundle *b, const struct place *p, const struct registry_login *login,
		       const char *from, struct err *e)
{
	switch (p->transport) {
	case NODE:
		return write_node(cli, b, p, e);
	case DOCKER:
		return registry_write(cli, b, p->name, login, from, e);
	case OCI:
		return layout_write(p->path, b, p->name, e);
	case DIR:
		return dir_write(p->path, b, e);
	default:
		return write_archive(cli, b, p, e);
	}
}

/* --- the verbs --------------------------------------------------------------------------------------------------------- */

int verb_image_copy(struct cli *cli, char *const *argv, struct err *e)
{
	struct registry_login from = { 0 }, to = { 0 };
	const char *authfile = NULL, *platform_name = NULL;
	const struct opt opts[] = {
		{ OPT_STR, 0, "platform", &platform_name, "OS/ARCH", "Of an index, what is for this; default: this machine's" },
		{ OPT_STR, 0, "authfile", &authfile, "FILE", "Credentials, as auth.json or docker's config.json has them" },
		{ OPT_STR, 0, "src-creds", &from.creds, "USER:PASSWORD", "For the source's registry (others see it in ps)" },
		{ OPT_STR, 0, "dest-creds", &to.creds, "USER:PASSWORD", "For the destination's" },
		{ 0 },
	};
	struct platform platform = *platform_host();
	struct place source, target;
	auto_bundle b;
	char **words;
	int rc;

	bundle_init(&b, cli->a);
	rc = cli_options(cli, "image copy", opts, 0, argv, &words, e);
	if (rc)
		return rc < 0 ? -1 : 0;
	if (strv_len(words) != 2)
		return err_set(e, ERR_INVALID, "knarr image copy: give a source and a destination");
	from.authfile = to.authfile = authfile;
	if (place_parse(cli->a, words[0], &source, e) < 0 || place_parse(cli->a, words[1], &target, e) < 0 ||
	    (platform_name && platform_parse(cli->a, platform_name, &platform, e) < 0))
		return -1;
	if (place_read(cli, &b, &source, &from, &platform, e) < 0 ||
	    place_write(cli, &b, &target, &to, source.transport == DOCKER ? source.name : NULL, e) < 0)
		return -1;
	return puts(b.manifest.digest) < 0 ? -1 : 0;
}

int verb_image_push(struct cli *cli, char *const *argv, struct err *e)
{
	struct registry_login login = { 0 };
	const struct opt opts[] = {
		{ OPT_STR, 0, "authfile", &login.authfile, "FILE", "Credentials, as auth.json or docker's config.json has them" },
		{ OPT_STR, 0, "creds", &login.creds, "USER:PASSWORD", "Credentials (others see them in ps)" },
		{ 0 },
	};
	struct place target;
	struct ref ref;
	auto_bundle b;
	char **words;
	int rc;

	bundle_init(&b, cli->a);
	rc = cli_options(cli, "image push", opts, 0, argv, &words, e);
	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0] || (words[1] && words[2]))
		return err_set(e, ERR_INVALID, "knarr image push: give an image, and where to if that is not its name");
	if (place_parse(cli->a, words[1] ? words[1] : words[0], &target, e) < 0)
		return -1;
	/* A name without a transport is a registry's. */
	if (target.transport == NODE) {
		target.transport = DOCKER;
		if (ref_parse(cli->a, target.name, &ref, e) < 0)
			return -1;
	}
	if (node_read(cli, &b, words[0], e) < 0 || place_write(cli, &b, &target, &login, NULL, e) < 0)
		return -1;
	return puts(b.manifest.digest) < 0 ? -1 : 0;
}
