// ImapFlow, a client that speaks IMAP4rev2; prints a line of JSON for each subject. See test_imapflow.py.
// Words: port, user, password, the authority's certificate.
const { ImapFlow } = require('imapflow');
const fs = require('fs');
const [port, user, pass, ca] = process.argv.slice(2);
const say = (what, value) => console.log(what + ' ' + JSON.stringify(value));
const letter = (subject, more = '') =>
  `From: j@example.test\r\nSubject: ${subject}\r\nMessage-ID: <${subject}@flow>\r\n${more}` +
  'Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n';
const connect = () => new ImapFlow({
  host: 'localhost', port: Number(port), secure: true, auth: { user, pass }, qresync: true, logger: false,
  clientInfo: { name: 'flow' }, tls: { ca: fs.readFileSync(ca) }
});

(async () => {
  const one = connect(), two = connect();
  const heard = [];
  await one.connect();
  await two.connect();
  say('enabled', [...one.enabled].sort());
  say('server', one.serverInfo.name);
  say('limit', one.capabilities.get('APPENDLIMIT'));
  const made = await one.mailboxCreate('Flow/Bücher');
  say('made', [made.path, made.created, typeof made.mailboxId]);
  const first = await one.append('Flow/Bücher', letter('one'), ['\\Seen', 'Work'], new Date(1790000000000));
  await one.append('Flow/Bücher', letter('two', 'References: <one@flow>\r\n'));
  await one.append('Flow/Bücher', letter('three'));
  say('appended', first.uid);
  const listed = (await one.list({ statusQuery: { messages: true, unseen: true, size: true, deleted: true } }))
    .find(box => box.path === 'Flow/Bücher');
  say('status', listed.status);
  say('special', (await one.list()).filter(box => box.specialUse).map(box => box.specialUse).sort());
  const open = await one.mailboxOpen('Flow/Bücher');
  say('open', [open.exists, open.mailboxId === made.mailboxId, open.noModseq === undefined || open.noModseq === false]);
  const found = await one.fetchOne('1', { uid: true, flags: true, emailId: true, threadId: true, bodyStructure: true });
  say('fetched', [found.uid, [...found.flags].sort(), typeof found.emailId, found.bodyStructure.type]);
  say('same', await one.search({ emailId: found.emailId }, { uid: true }));
  say('thread', await one.search({ threadId: found.threadId }, { uid: true }));
  say('search', await one.search({ or: [{ subject: 'two' }, { body: 'Grüße' }], not: { keyword: 'Work' } }, { uid: true }));
  const part = await one.download('2', '1', { uid: true });
  let text = '';
  for await (const some of part.content) text += some;
  say('text', text.trim());
  const before = one.mailbox.highestModseq;
  await two.mailboxOpen('Flow/Bücher');
  one.on('expunge', event => heard.push(['gone', event.uid, !!event.vanished]));
  one.on('flags', event => heard.push(['flags', event.uid, [...event.flags].sort()]));
  await two.messageFlagsAdd('2', ['\\Flagged'], { uid: true });
  const moved = await two.messageMove('3', 'Archive', { uid: true });
  say('moved', [...moved.uidMap.keys()]);
  await one.noop();
  say('heard', heard);
  const changed = [];
  for await (const each of one.fetch('1:*', { flags: true }, { uid: true, changedSince: before })) changed.push(each.uid);
  say('changed', changed);
  say('quota', await one.getQuota('INBOX'));
  await two.mailboxDelete('Flow/Bücher').then(() => two.mailboxDelete('Flow'));
  await one.logout();
  await two.logout();
  console.log('DONE');
})().catch(error => { console.error(error, error.response); process.exit(1); });
