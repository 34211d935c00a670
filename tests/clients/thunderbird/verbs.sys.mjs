// What tests/clients/thunderbird/program.py asks Thunderbird to do, in the program's own words: each verb drives the same
// modules that its windows do. Messages are told by their subject, folders by their path below the account's root.

import { AddonManager } from "resource://gre/modules/AddonManager.sys.mjs";
import { MailServices } from "resource:///modules/MailServices.sys.mjs";
import { AccountConfig } from "resource:///modules/accountcreation/AccountConfig.sys.mjs";
import { BondOpenPGP } from "chrome://openpgp/content/BondOpenPGP.sys.mjs";
import { ConfigVerifier } from "resource:///modules/accountcreation/ConfigVerifier.sys.mjs";
import { CreateInBackend } from "resource:///modules/accountcreation/CreateInBackend.sys.mjs";
import { GuessConfig } from "resource:///modules/accountcreation/GuessConfig.sys.mjs";
import { JXON } from "resource:///modules/JXON.sys.mjs";
import { MessageArchiver } from "resource:///modules/MessageArchiver.sys.mjs";
import { OAuth2Module } from "resource:///modules/OAuth2Module.sys.mjs";
import { OpenPGPMasterpass } from "chrome://openpgp/content/modules/masterpass.sys.mjs";
import { RNP } from "chrome://openpgp/content/modules/RNP.sys.mjs";
import { readFromXML } from "resource:///modules/accountcreation/readFromXML.sys.mjs";
import { setTimeout } from "resource://gre/modules/Timer.sys.mjs";

const FLAGS = {
  Inbox: Ci.nsMsgFolderFlags.Inbox,
  Sent: Ci.nsMsgFolderFlags.SentMail,
  Drafts: Ci.nsMsgFolderFlags.Drafts,
  Trash: Ci.nsMsgFolderFlags.Trash,
  Junk: Ci.nsMsgFolderFlags.Junk,
  Archive: Ci.nsMsgFolderFlags.Archive,
};

const window3 = () => Services.wm.getMostRecentWindow("mail:3pane");
const msgWindow = () => window3().msgWindow;

export async function until(check, what, seconds = 100) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await check();
    if (value) {
      return value;
    }
    if (Date.now() > end) {
      throw new Error(`not within ${seconds} s: ${what}`);
    }
    await new Promise(go => setTimeout(go, 20));
  }
}

// Listeners that are promises

// Of a folder that is just being updated for another reason the program tells no end: then a while must do.
class UrlEnd {
  QueryInterface = ChromeUtils.generateQI(["nsIUrlListener"]);
  constructor() {
    this.promise = new Promise((resolve, reject) => {
      setTimeout(resolve, 5000);
      this.OnStartRunningUrl = () => {};
      this.OnStopRunningUrl = (url, status) =>
        Components.isSuccessCode(status)
          ? resolve()
          : reject(new Error(`${url?.spec}: status ${status.toString(16)}`));
    });
  }
}

class CopyEnd {
  QueryInterface = ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]);
  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.onStopCopy = status =>
        Components.isSuccessCode(status)
          ? resolve()
          : reject(new Error(`copy: status ${status.toString(16)}`));
    });
  }
  onStartCopy() {}
  onProgress() {}
  setMessageKey() {}
  getMessageId() {
    return null;
  }
}

// Accounts

export async function trust(pem) {
  const database = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
  database.addCertFromBase64(pem.replace(/-----[^-]+-----|\s/g, ""), "C,,");
}

// The account wizard: "Re-test" finds out what the servers offer, then a login is tried, then the account is made.
// Whoever chooses OAuth2 there instead is not asked for a password.
export async function addAccount({ type, host = "localhost", address, password, name, port, smtpPort, ssl, oauth }) {
  const config = new AccountConfig();
  const { alwaysSTARTTLS, SSL } = Ci.nsMsgSocketType;
  Object.assign(config.incoming, { type, hostname: host, port, username: address, password });
  Object.assign(config.outgoing, { type: "smtp", hostname: host, port: smtpPort, username: address, password });
  config.incoming.socketType = config.outgoing.socketType = ssl ? SSL : alwaysSTARTTLS;
  if (oauth) {
    config.incoming.auth = config.outgoing.auth = Ci.nsMsgAuthMethod.OAuth2;
  }
  const signal = new AbortController().signal;
  await GuessConfig.guessConfig(host, () => {}, config, "both", signal);
  const guessed = {
    incoming: [config.incoming.socketType, config.incoming.auth, config.incoming.badCert],
    outgoing: [config.outgoing.socketType, config.outgoing.auth, config.outgoing.badCert],
  };
  Object.assign(config.identity, { realname: name, emailAddress: address });
  config.rememberPassword = true;
  config.outgoing.addThisServer = true;
  await new ConfigVerifier(msgWindow(), signal).verifyConfig(config, false);
  const account = await CreateInBackend.createAccountInBackend(config);
  return { key: account.key, guessed };
}

// Add-ons and Themes, Install Add-on From File; the questions are answered with yes.
export async function install(path) {
  const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
  file.initWithPath(path);
  const install = await AddonManager.getInstallForFile(file);
  const addOn = await install.install();
  await addOn.enable();
  await until(() => addOn.isActive, `${path} installed`);
}

// The access token of an account that signs in by OAuth2: the next connection gets another from the provider.
export async function forgetToken(account) {
  const module = new OAuth2Module();
  module.initFromMail(MailServices.accounts.getAccount(account).incomingServer);
  module.clearAccessToken();
}

// What the account wizard makes of a file that the provider's web server offers.
export async function autoconfiguration(xml) {
  const config = readFromXML(JXON.build(new DOMParser().parseFromString(xml, "text/xml")), "test");
  const plain = one => [one.type, one.hostname, one.port, one.socketType, one.auth, one.username];
  return [config.incoming, ...config.incomingAlternatives, config.outgoing, ...config.outgoingAlternatives].map(plain);
}

// An account's setting, as Account Settings changes it.
export async function set(account, name, value) {
  const server = MailServices.accounts.getAccount(account).incomingServer;
  server.QueryInterface(server.type == "imap" ? Ci.nsIImapIncomingServer : Ci.nsIPop3IncomingServer)[name] = value;
}

export async function closeConnections(account) {
  MailServices.accounts.getAccount(account).incomingServer.closeCachedConnections();
}

// File, Offline, Work Offline: there and back. Back online, its window has what was done meanwhile done on the server.
async function toggleOffline(offline) {
  window3().MailOfflineMgr.toggleOfflineStatus();
  await until(() => Services.io.offline == offline, offline ? "offline" : "online");
}

export const goOffline = () => toggleOffline(true);
export const goOnline = () => toggleOffline(false);

// Account Settings, End-To-End Encryption, Add Key, "Create a new OpenPGP Key".
export async function makeKey(account) {
  const identity = MailServices.accounts.getAccount(account).defaultIdentity;
  await BondOpenPGP.init();
  const password = await OpenPGPMasterpass.retrieveOpenPGPPassword();
  const key = await RNP.genKey(`${identity.fullName} <${identity.email}>`, "ECC", 0, 0, password);
  await RNP.saveKeyRings();
  identity.setUnicharAttribute("openpgp_key_id", key);
}

// Folders

const root = account => MailServices.accounts.getAccount(account).incomingServer.rootFolder;
const imap = folder => folder.QueryInterface(Ci.nsIMsgImapMailFolder);

function find(account, path) {
  return path
    .split("/")
    .reduce((folder, name) => folder?.subFolders.find(one => one.name == name), root(account));
}

function folder(account, path) {
  const found = find(account, path);
  if (!found) {
    throw new Error(`no folder ${path}`);
  }
  return found;
}

function path(folder) {
  return folder.isServer ? "" : `${path(folder.parent)}/${folder.name}`.replace(/^\//, "");
}

// Ask for the account's folders; their paths, with the special uses that the program sees in them.
export async function folders(account) {
  const end = new UrlEnd();
  MailServices.imap.discoverAllFolders(root(account), end, msgWindow());
  await end.promise;
  return Object.fromEntries(
    root(account).descendants.map(one => [
      path(one),
      Object.keys(FLAGS).filter(name => one.getFlag(FLAGS[name])),
    ])
  );
}

export async function createFolder(account, where, name) {
  (where ? folder(account, where) : root(account)).createSubfolder(name, msgWindow());
  await until(() => find(account, where ? `${where}/${name}` : name), `${name} made`);
}

export async function renameFolder(account, where, name) {
  const parent = path(folder(account, where).parent);
  folder(account, where).rename(name, msgWindow());
  await until(() => find(account, parent ? `${parent}/${name}` : name), `${where} renamed`);
}

// Into the trash.
export async function deleteFolder(account, where) {
  folder(account, where).deleteSelf(msgWindow());
  await until(() => !find(account, where), `${where} deleted`);
}

// From the trash, once the question whether one is sure is answered with yes.
export async function deleteForGood(account, where) {
  MailServices.imap.deleteFolder(folder(account, where), null, msgWindow());
}

// What a click on the folder does: select it and fetch what is new.
export async function open(account, where) {
  const end = new UrlEnd();
  imap(folder(account, where)).updateFolderWithListener(msgWindow(), end);
  await end.promise;
}

export async function compact(account, where) {
  const end = new UrlEnd();
  folder(account, where).compact(end, msgWindow());
  await end.promise;
}

export async function download(account, where) {
  const end = new UrlEnd();
  folder(account, where).setFlag(Ci.nsMsgFolderFlags.Offline);
  await until(() => !folder(account, where).locked, `${where} free`); // it may be downloading by itself
  folder(account, where).downloadAllForOffline(end, msgWindow());
  await end.promise;
  return [...folder(account, where).messages].filter(one => one.flags & Ci.nsMsgMessageFlags.Offline).length;
}

export async function quota(account, where) {
  const found = imap(folder(account, where)).getQuota();
  return found.map(one => [one.name, Number(one.usage), Number(one.limit)]);
}

// Messages

function hdr(account, where, subject) {
  const all = [...folder(account, where).messages].filter(one => one.mime2DecodedSubject == subject);
  if (all.length != 1) {
    throw new Error(`${all.length} messages in ${where} with the subject ${subject}`);
  }
  return all[0];
}

function told(one) {
  const { Replied, Forwarded, IMAPDeleted } = Ci.nsMsgMessageFlags;
  const marks = {
    read: one.isRead,
    starred: one.isFlagged,
    replied: one.flags & Replied,
    forwarded: one.flags & Forwarded,
    deleted: one.flags & IMAPDeleted,
  };
  return {
    subject: one.mime2DecodedSubject,
    author: one.mime2DecodedAuthor,
    size: one.messageSize,
    uid: one.messageKey,
    marks: Object.keys(marks).filter(name => marks[name]),
    keywords: one.getStringProperty("keywords").split(" ").filter(Boolean),
  };
}

export async function messages(account, where) {
  return [...folder(account, where).messages].map(told);
}

// Wait until the folder shows just these subjects; `open` it now and then, unless new mail should come by itself.
export async function shows(account, where, subjects, unasked = false) {
  const wanted = [...subjects].sort().join("\n");
  let again = 0;
  await until(async () => {
    if (!unasked && Date.now() > again) {
      open(account, where).catch(() => {});
      again = Date.now() + 2000;
    }
    const shown = (await messages(account, where)).map(one => one.subject);
    return shown.sort().join("\n") == wanted;
  }, `${where} shows ${subjects}`);
}

export async function source(account, where, subject) {
  const message = hdr(account, where, subject);
  const uri = message.folder.getUriForMsg(message);
  return new Promise((resolve, reject) => {
    let text = "";
    const listener = {
      QueryInterface: ChromeUtils.generateQI(["nsIStreamListener"]),
      onStartRequest() {},
      onDataAvailable(_request, stream, _offset, count) {
        const input = Cc["@mozilla.org/binaryinputstream;1"].createInstance(Ci.nsIBinaryInputStream);
        input.setInputStream(stream);
        text += input.readBytes(count);
      },
      onStopRequest: (_request, status) =>
        Components.isSuccessCode(status) ? resolve(text) : reject(new Error(`status ${status.toString(16)}`)),
    };
    MailServices.messageServiceFromURI(uri).streamMessage(uri, listener, msgWindow(), null, false, "");
  });
}

// Choose the message in the window; what a person then sees of it: the header's subject and sender, and the text.
export async function read(account, where, subject) {
  return seen(await display(account, where, subject));
}

// The same of a message that is encrypted or signed, with what the window thinks of that: "ok", "mismatch"...
export async function readSecured(account, where, subject) {
  const page = await display(account, where, subject);
  const icon = kind => page.document.getElementById(`${kind}HdrIcon`);
  const state = kind => (icon(kind).hidden ? "" : icon(kind).getAttribute("src").match(/-(\w+)\.svg/)[1]);
  await until(() => state("signed") || state("encrypted"), `${subject} looked through`);
  await until(() => page.msgLoaded && page.getMessagePaneBrowser().contentDocument.body, `${subject} displayed`);
  return { ...seen(page), signed: state("signed"), encrypted: state("encrypted") };
}

async function display(account, where, subject) {
  const pane = window3().document.getElementById("tabmail").currentAbout3Pane;
  pane.displayFolder(folder(account, where));
  const message = hdr(account, where, subject);
  await until(() => pane.gDBView?.msgFolder == message.folder, `${where} displayed`);
  pane.threadTree.selectedIndex = pane.gDBView.findIndexOfMsgHdr(message, true);
  const page = pane.messageBrowser.contentWindow;
  await until(() => page.gMessage?.messageId == message.messageId && page.msgLoaded, `${subject} displayed`);
  return page;
}

function seen(page) {
  const shown = id => page.document.getElementById(id).textContent.trim();
  return {
    subject: shown("expandedsubjectBox"),
    from: shown("expandedfromBox"),
    text: page.getMessagePaneBrowser().contentDocument.body.textContent.trim(),
    attachments: page.currentAttachments.map(one => [one.name, one.contentType]),
  };
}

export async function mark(account, where, subject, marks) {
  const message = hdr(account, where, subject);
  const keep = message.folder;
  const verbs = {
    read: on => keep.markMessagesRead([message], on),
    starred: on => keep.markMessagesFlagged([message], on),
    tag: name => keep.addKeywordsToMessages([message], name),
    untag: name => keep.removeKeywordsFromMessages([message], name),
    junk: on => keep.addKeywordsToMessages([message], on ? "junk" : "nonjunk"),
  };
  for (const [name, value] of Object.entries(marks)) {
    verbs[name](value);
  }
}

export async function transfer(account, where, subjects, target, move, targetAccount = account) {
  const end = new CopyEnd();
  const all = subjects.map(subject => hdr(account, where, subject));
  MailServices.copy.copyMessages(
    folder(account, where), all, folder(targetAccount, target), move, end, msgWindow(), true
  );
  await end.promise;
}

// The Delete key.
export async function remove(account, where, subject, forGood = false) {
  const end = new CopyEnd();
  folder(account, where).deleteMessages([hdr(account, where, subject)], msgWindow(), forGood, false, end, true);
  await end.promise;
}

export async function archive(account, where, subject) {
  const archiver = new MessageArchiver();
  archiver.msgWindow = msgWindow();
  const done = new Promise(resolve => (archiver.oncomplete = resolve));
  archiver.archiveMessages([hdr(account, where, subject)]);
  await done;
}

export async function undo() {
  window3().messenger.undo(msgWindow());
}

// Search on the server; the subjects found.
export async function search(account, where, attribute, text) {
  const session = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession);
  const term = session.createTerm();
  const value = term.value;
  term.attrib = value.attrib = Ci.nsMsgSearchAttrib[attribute];
  value.str = text;
  term.value = value;
  term.op = Ci.nsMsgSearchOp.Contains;
  session.appendTerm(term);
  session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, folder(account, where));
  const found = [];
  return new Promise((resolve, reject) => {
    session.registerListener({
      QueryInterface: ChromeUtils.generateQI(["nsIMsgSearchNotify"]),
      onNewSearch() {},
      onSearchHit: one => found.push(one.mime2DecodedSubject),
      onSearchDone: status =>
        Components.isSuccessCode(status)
          ? resolve(found.sort())
          : reject(new Error(`search: status ${status.toString(16)}`)),
    });
    session.search(msgWindow());
  });
}

// Writing

const KINDS = {
  new: Ci.nsIMsgCompType.New,
  reply: Ci.nsIMsgCompType.Reply,
  forward: Ci.nsIMsgCompType.ForwardAsAttachment,
};

// The compose window, filled in, with each of these pressed in turn: Save, Send, Close. To the end of the copy in Sent.
// `secure`: what is on of the menu OpenPGP.
export async function write(account, { kind = "new", of, to, bcc, subject, body, attachment, secure, then = ["Now"] }) {
  const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
  const params = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
  Object.assign(fields, Object.fromEntries(Object.entries({ to, bcc, subject, body }).filter(([, value]) => value)));
  if (attachment) {
    const file = Cc["@mozilla.org/messengercompose/attachment;1"].createInstance(Ci.nsIMsgAttachment);
    fields.addAttachment(Object.assign(file, attachment));
  }
  params.composeFields = fields;
  params.identity = MailServices.accounts.getAccount(account).defaultIdentity;
  params.type = KINDS[kind];
  params.format = Ci.nsIMsgCompFormat.PlainText;
  if (of) {
    params.origMsgHdr = hdr(account, ...of);
    params.originalMsgURI = params.origMsgHdr.folder.getUriForMsg(params.origMsgHdr);
  }
  const win = await opened(() => MailServices.compose.OpenComposeWindowWithParams(null, params));
  if (secure) {
    choose(win, secure);
  }
  for (const press of then) {
    if (press == "Close") {
      win.close();
      continue;
    }
    const draft = win.gMsgCompose.compFields.draftId;
    await win.GenericSendMessage(Ci.nsIMsgCompDeliverMode[press]);
    if (press == "SaveAsDraft" && Services.io.offline) {
      await until(() => !win.gWindowLocked && find(account, "Drafts").getTotalMessages(false), `${subject} saved`);
    } else if (press == "SaveAsDraft") {
      await until(() => win.gMsgCompose.compFields.draftId != draft && !win.gWindowLocked, `${subject} saved`);
      await shows(account, "Drafts", [subject]);
      await until(() => win.gMsgCompose.compFields.draftId.endsWith(`#${hdr(account, "Drafts", subject).messageKey}`));
    }
  }
  await until(() => win.closed, `the compose window of ${subject ?? kind} closes`);
}

function choose(win, secure) {
  const choices = {
    gSendEncrypted: [secure.includes("encrypt"), () => win.toggleEncryptMessage()],
    gSendSigned: [secure.includes("sign"), () => win.toggleGlobalSignMessage()],
    gEncryptSubject: [secure.includes("subject"), () => win.toggleEncryptedSubject()],
  };
  for (const [name, [wanted, toggle]] of Object.entries(choices)) {
    if (win[name] != wanted) {
      toggle();
    }
  }
}

// The compose window that this call opens, once it can be typed in. Other windows may open meanwhile.
async function opened(open) {
  const known = new Set(Services.wm.getEnumerator("msgcompose"));
  open();
  return until(
    () => [...Services.wm.getEnumerator("msgcompose")].find(win => !known.has(win) && win.composeEditorReady),
    "a compose window"
  );
}

// POP3

// What "Get Messages" does.
export async function fetch(account) {
  const server = MailServices.accounts.getAccount(account).incomingServer;
  const end = new UrlEnd();
  MailServices.pop3.GetNewMail(msgWindow(), end, server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox), server);
  await end.promise;
}
